"""ChannelsService: message → use case → message."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from regie.ids.v1.prefixes import CHANNEL
from regie.publisher.v1 import channels_service_pb2 as pb
from regie.publisher.v1.channels_service_pb2_grpc import ChannelsServiceServicer
from regie_chassis.boundary.ids import parse_id, show_id
from regie_chassis.boundary.rpc import Context, caller
from regie_chassis.boundary.timestamps import timestamp
from regie_chassis.data.database import Database
from regie_chassis.process.clock import Clock
from regie_networks.addresses import host_of
from regie_networks.contract import Connector

from regie_publisher.channels.channel import Channel, ChannelState
from regie_publisher.channels.connecting import connect_channel, disconnect_channel
from regie_publisher.channels.queries import get_channel, list_channels
from regie_publisher.channels.sealing import Keyring
from regie_publisher.fairness.concurrency import ConcurrencyLimit, TooManyConnects
from regie_publisher.fairness.hosts import Hosts

STATES = {state: pb.ChannelState.Value(f"CHANNEL_STATE_{state.name}") for state in ChannelState}
CONNECTS_AT_ONCE = 10
"""Concurrent connects of a workspace: each may take 40 s, and most people connect one account after the other."""


class ChannelsServicer(ChannelsServiceServicer):
    """Answers for the verified caller's workspace."""

    def __init__(
        self,
        database: Database,
        *,
        connectors: Mapping[str, Connector],
        keyring: Keyring,
        hosts: Hosts,
        allowed_hosts: Collection[str],
        clock: Clock,
    ) -> None:
        self._database = database
        self._connectors = connectors
        self._keyring = keyring
        self._hosts = hosts
        self._allowed_hosts = allowed_hosts
        self._clock = clock
        self._connects = ConcurrencyLimit(CONNECTS_AT_ONCE, TooManyConnects)

    async def ConnectChannel(self, request: pb.ConnectChannelRequest, context: Context) -> pb.ConnectChannelResponse:
        with self._connects.hold(caller().workspace_id):
            channel = await connect_channel(
                self._database,
                self._connectors,
                self._keyring,
                workspace_id=caller().workspace_id,
                network=request.network,
                server_url=request.server_url,
                credentials=dict(request.credentials),
                allowed_hosts=self._allowed_hosts,
                now=self._clock.now(),
            )
        self._hosts.answered((caller().workspace_id, host_of(channel.server_url)))
        return pb.ConnectChannelResponse(channel=self._channel(channel))

    async def GetChannel(self, request: pb.GetChannelRequest, context: Context) -> pb.GetChannelResponse:
        channel_id = parse_id(CHANNEL, request.channel_id, "channel_id")
        async with self._database.reading() as session:
            channel = await get_channel(session, workspace_id=caller().workspace_id, channel_id=channel_id)
        return pb.GetChannelResponse(channel=self._channel(channel))

    async def ListChannels(self, request: pb.ListChannelsRequest, context: Context) -> pb.ListChannelsResponse:
        async with self._database.reading() as session:
            page = await list_channels(
                session,
                workspace_id=caller().workspace_id,
                page_size=request.page_size,
                page_token=request.page_token,
            )
        channels = [self._channel(channel) for channel in page.items]
        return pb.ListChannelsResponse(channels=channels, next_page_token=page.next_page_token)

    async def DisconnectChannel(
        self, request: pb.DisconnectChannelRequest, context: Context
    ) -> pb.DisconnectChannelResponse:
        channel_id = parse_id(CHANNEL, request.channel_id, "channel_id")
        async with self._database.transaction() as session:
            channel = await disconnect_channel(
                session, workspace_id=caller().workspace_id, channel_id=channel_id, now=self._clock.now()
            )
        return pb.DisconnectChannelResponse(channel=self._channel(channel))

    def _channel(self, channel: Channel) -> pb.Channel:
        blocked = channel.block_time is not None and channel.block_time > self._clock.now()
        return pb.Channel(
            channel_id=show_id(CHANNEL, channel.id),
            network=channel.network,
            server_url=channel.server_url,
            remote_id=channel.remote_id,
            handle=channel.handle,
            display_name=channel.display_name,
            state=STATES[channel.state],
            attention=channel.attention,
            create_time=timestamp(channel.create_time),
            blocked_until_time=timestamp(channel.block_time) if channel.block_time and blocked else None,
            shared=channel.shared,
        )
