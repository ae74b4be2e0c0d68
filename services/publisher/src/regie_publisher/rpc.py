"""The publisher's RPCs: message, use case, message."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from regie.publisher.v1 import publisher_service_pb2 as pb
from regie.publisher.v1.publisher_service_pb2_grpc import PublisherServiceServicer
from regie_chassis.clock import Clock
from regie_chassis.database import Database
from regie_chassis.ids import CHANNEL, DELIVERY, MEDIA, POST, parse_id, show_id
from regie_chassis.rpc import Context, caller
from regie_chassis.timestamps import timestamp
from regie_networks.addresses import host_of
from regie_networks.contract import Connector

from regie_publisher import channels
from regie_publisher.deliveries import timeline
from regie_publisher.deliveries.resolving import Resolver
from regie_publisher.hosts import Hosts
from regie_publisher.media import Library
from regie_publisher.sealing import Keyring
from regie_publisher.turns import TooManyConnects, TooManyResolves, Turns

CONNECTS_AT_ONCE = 10
"""Of a workspace: each may take 40 s, and most people connect one after the other."""
RESOLVES_AT_ONCE = 10
"""The same of people's words about deliveries, for which the network may be asked."""


class PublisherServicer(PublisherServiceServicer):
    """Answers `PublisherService` for the verified caller's workspace."""

    def __init__(
        self,
        database: Database,
        *,
        connectors: Mapping[str, Connector],
        keyring: Keyring,
        library: Library,
        hosts: Hosts,
        resolver: Resolver,
        allowed_hosts: Collection[str],
        clock: Clock,
    ) -> None:
        self._database = database
        self._connectors = connectors
        self._keyring = keyring
        self._library = library
        self._hosts = hosts
        self._resolver = resolver
        self._allowed_hosts = allowed_hosts
        self._clock = clock
        self._connects = Turns(CONNECTS_AT_ONCE, TooManyConnects)
        self._resolves = Turns(RESOLVES_AT_ONCE, TooManyResolves)

    async def ConnectChannel(self, request: pb.ConnectChannelRequest, context: Context) -> pb.ConnectChannelResponse:
        with self._connects.take(caller().workspace_id):
            channel = await channels.connect_channel(
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
            found = await channels.get_channel(session, workspace_id=caller().workspace_id, channel_id=channel_id)
        return pb.GetChannelResponse(channel=self._channel(found))

    async def ListChannels(self, request: pb.ListChannelsRequest, context: Context) -> pb.ListChannelsResponse:
        async with self._database.reading() as session:
            page, token = await channels.list_channels(
                session,
                workspace_id=caller().workspace_id,
                page_size=request.page_size,
                page_token=request.page_token,
            )
        return pb.ListChannelsResponse(channels=[self._channel(channel) for channel in page], next_page_token=token)

    async def DisconnectChannel(
        self, request: pb.DisconnectChannelRequest, context: Context
    ) -> pb.DisconnectChannelResponse:
        channel_id = parse_id(CHANNEL, request.channel_id, "channel_id")
        async with self._database.transaction() as session:
            gone = await channels.disconnect_channel(
                session, workspace_id=caller().workspace_id, channel_id=channel_id, now=self._clock.now()
            )
        return pb.DisconnectChannelResponse(channel=self._channel(gone))

    async def UploadMedia(self, request: pb.UploadMediaRequest, context: Context) -> pb.UploadMediaResponse:
        media = await self._library.upload(request.data, workspace_id=caller().workspace_id, now=self._clock.now())
        return pb.UploadMediaResponse(
            media=pb.Media(
                media_id=show_id(MEDIA, media.id),
                content_type=media.content_type,
                size=media.size,
                width=media.width,
                height=media.height,
                frames=media.frames,
            )
        )

    async def ListDeliveries(self, request: pb.ListDeliveriesRequest, context: Context) -> pb.ListDeliveriesResponse:
        post_id = parse_id(POST, request.post_id, "post_id")
        async with self._database.reading() as session:
            page = await timeline.list_deliveries(
                session, workspace_id=caller().workspace_id, post_id=post_id, page_token=request.page_token
            )
        return pb.ListDeliveriesResponse(
            deliveries=[_delivery(delivery) for delivery in page.items], next_page_token=page.next_page_token
        )

    async def ResolveDelivery(self, request: pb.ResolveDeliveryRequest, context: Context) -> pb.ResolveDeliveryResponse:
        delivery_id = parse_id(DELIVERY, request.delivery_id, "delivery_id")
        with self._resolves.take(caller().workspace_id):
            delivery = await self._resolver.resolve(
                workspace_id=caller().workspace_id,
                delivery_id=delivery_id,
                request_id=request.request_id,
                published=request.published,
                remote_url=request.remote_url,
            )
        return pb.ResolveDeliveryResponse(delivery=_delivery(delivery))

    def _channel(self, channel: channels.Channel) -> pb.Channel:
        blocked = channel.block_time is not None and channel.block_time > self._clock.now()
        return pb.Channel(
            channel_id=show_id(CHANNEL, channel.id),
            network=channel.network,
            server_url=channel.server_url,
            remote_id=channel.remote_id,
            handle=channel.handle,
            display_name=channel.display_name,
            state=channel.state,
            attention=channel.attention,
            create_time=timestamp(channel.create_time),
            blocked_until_time=timestamp(channel.block_time) if channel.block_time and blocked else None,
            shared=channel.shared,
        )


def _delivery(delivery: timeline.Delivery) -> pb.Delivery:
    return pb.Delivery(
        delivery_id=show_id(DELIVERY, delivery.id),
        post_id=show_id(POST, delivery.post_id),
        channel_id=show_id(CHANNEL, delivery.channel_id),
        revision=delivery.revision,
        state=delivery.state,
        remote_id=delivery.remote.id if delivery.remote else "",
        remote_url=delivery.remote.url if delivery.remote else "",
        failure_kind=delivery.failure_kind,
        network_message=delivery.network_message,
        changes=[_change(change) for change in delivery.changes],
        call_end_time=timestamp(delivery.call_end),
        quiet_end_time=timestamp(delivery.quiet_end),
        next_look_time=timestamp(delivery.next_look),
        detail=delivery.detail,
        segments=[
            pb.DeliverySegment(
                state=segment.state,
                remote_id=segment.remote.id if segment.remote else "",
                remote_url=segment.remote.url if segment.remote else "",
            )
            for segment in delivery.segments
        ],
    )


def _change(change: timeline.Change) -> pb.DeliveryChange:
    return pb.DeliveryChange(
        time=timestamp(change.time),
        state=change.state,
        cause=change.cause,
        attempt=change.attempt,
        network_message=change.network_message,
        trace_id=change.trace_id,
        detail=change.detail,
        segments_out=change.segments_out,
    )
