"""Channels: connected accounts on networks."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import Request, Response
from pydantic import ConfigDict, Field
from regie.publisher.v1 import channels_service_pb2 as pb
from regie_chassis.enums import names_of

from regie_gateway.rest.edge import call_of, reply
from regie_gateway.rest.fields import Body, ChannelId, Page, View, show_time, without_default
from regie_gateway.rest.operations import Operations

operations = Operations("channels")

CONNECT_DEADLINE = 45.0  # seconds; the publisher may ask the network several times, and gives up after 40


# Those that the publisher has connectors for (tests/policy/test_limits.py).
Network = Literal["bluesky", "mastodon", "sandbox"]


class ConnectChannel(Body):
    """An account to connect. The credentials are checked with the network, sealed, and never shown again."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "network": "bluesky",
                    "credentials": {"identifier": "press.example.org", "app_password": "xxxx-xxxx-xxxx-xxxx"},
                }
            ]
        }
    )

    network: Network = Field(description="The sandbox is one in the embedded mode only.")
    server_url: str = Field(
        default="",
        max_length=2048,
        description="The network's main server when absent or empty.",
        json_schema_extra=without_default,
    )
    credentials: dict[
        Annotated[str, Field(min_length=1, max_length=64)], Annotated[str, Field(min_length=1, max_length=4096)]
    ] = Field(
        min_length=1,
        max_length=10,
        description="bluesky: identifier, app_password; mastodon and sandbox: access_token.",
    )


class ChannelView(View):
    """A connected account."""

    channel_id: str
    network: str
    server_url: str
    remote_id: str
    handle: str
    display_name: str
    state: Literal["active", "needs_attention", "disconnected"]
    attention: str = Field(description="What a person has to do; empty when active.")
    create_time: datetime | None
    blocked_until_time: datetime | None = Field(
        description="Nothing is sent before: the network asked to wait. Connect the channel anew to try at once."
    )
    shared: bool = Field(description="True when another workspace has connected the same account, too.")


class ChannelPage(View):
    """A page of channels."""

    channels: list[ChannelView]
    next_page_token: str


@operations.add(
    "POST",
    "/v1/channels",
    scope="channels:write",
    summary="Connect a channel",
    description=(
        "Logs in with the network, which may take 45 seconds. An account that is connected already gets the new "
        "credentials, and keeps its id."
    ),
    answer=ChannelView,
    status=201,
    body="json",
)
async def connect_channel(request: Request, body: ConnectChannel) -> Response:
    call = call_of(request)
    answered = await call.ask(
        call.edge.backends.channels.ConnectChannel,
        pb.ConnectChannelRequest(
            request_id=call.request_id,
            network=body.network,
            server_url=body.server_url,
            credentials=body.credentials,
        ),
        timeout=CONNECT_DEADLINE,
    )
    shown = show_channel(answered.channel)
    return reply(shown, status=201, location=f"/v1/channels/{shown['channel_id']}")


@operations.add(
    "GET",
    "/v1/channels",
    scope="channels:read",
    summary="List channels",
    description="The newest first, disconnected ones included.",
    answer=ChannelPage,
)
async def list_channels(request: Request, page: Page) -> Response:
    call = call_of(request)
    asked = pb.ListChannelsRequest(page_size=page.page_size, page_token=page.page_token)
    answered = await call.ask(call.edge.backends.channels.ListChannels, asked)
    channels = [show_channel(channel) for channel in answered.channels]
    return reply({"channels": channels, "next_page_token": answered.next_page_token})


@operations.add(
    "GET",
    "/v1/channels/{channel_id}",
    scope="channels:read",
    summary="Get a channel",
    description="A connected account and whether it can be used.",
    answer=ChannelView,
)
async def get_channel(request: Request, channel_id: ChannelId) -> Response:
    call = call_of(request)
    answered = await call.ask(call.edge.backends.channels.GetChannel, pb.GetChannelRequest(channel_id=channel_id))
    return reply(show_channel(answered.channel))


@operations.add(
    "DELETE",
    "/v1/channels/{channel_id}",
    scope="channels:write",
    summary="Disconnect a channel",
    description="Forgets the credentials. Posts that are planned for it fail at their time.",
    answer=ChannelView,
    problems=(409,),
    reads="channels:read",
)
async def disconnect_channel(request: Request, channel_id: ChannelId) -> Response:
    call = call_of(request)
    asked = pb.DisconnectChannelRequest(request_id=call.request_id, channel_id=channel_id)
    answered = await call.ask(call.edge.backends.channels.DisconnectChannel, asked)
    return reply(show_channel(answered.channel))


def show_channel(channel: pb.Channel) -> dict[str, Any]:
    """Returns a channel as JSON."""
    return {
        "channel_id": channel.channel_id,
        "network": channel.network,
        "server_url": channel.server_url,
        "remote_id": channel.remote_id,
        "handle": channel.handle,
        "display_name": channel.display_name,
        "state": names_of(pb.ChannelState.DESCRIPTOR)[channel.state],
        "attention": channel.attention,
        "create_time": show_time(channel.create_time),
        "blocked_until_time": show_time(channel.blocked_until_time),
        "shared": channel.shared,
    }
