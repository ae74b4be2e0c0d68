"""Channels: connected accounts on networks."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import ConfigDict, Field
from regie.publisher.v1 import channels_service_pb2 as pb

from regie_gateway.http.context import RequestContext
from regie_gateway.http.fields import Body, ChannelId, Page, View, without_default
from regie_gateway.http.operations import Operations

operations = Operations("channels", "Connected accounts on networks.")

CONNECT_DEADLINE = 45.0  # seconds; the publisher may ask the network several times, and gives up after 40


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

    network: str = Field(min_length=1, max_length=40, description="The `name` of one of GET /v1/networks.")
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
        description="The `credentials` that GET /v1/networks lists for the network, by name.",
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
    location="/v1/channels/{channel_id}",
    body="json",
)
async def connect_channel(context: RequestContext, body: ConnectChannel) -> pb.Channel:
    request = pb.ConnectChannelRequest(
        request_id=context.request_id,
        network=body.network,
        server_url=body.server_url,
        credentials=body.credentials,
    )
    return (await context.call(context.backends.channels.ConnectChannel, request, timeout=CONNECT_DEADLINE)).channel


@operations.add(
    "GET",
    "/v1/channels",
    scope="channels:read",
    summary="List channels",
    description="The newest first, disconnected ones included.",
    answer=ChannelPage,
)
async def list_channels(context: RequestContext, page: Page) -> pb.ListChannelsResponse:
    request = pb.ListChannelsRequest(page_size=page.page_size, page_token=page.page_token)
    return await context.call(context.backends.channels.ListChannels, request)


@operations.add(
    "GET",
    "/v1/channels/{channel_id}",
    scope="channels:read",
    summary="Get a channel",
    description="A connected account and whether it can be used.",
    answer=ChannelView,
)
async def get_channel(context: RequestContext, channel_id: ChannelId) -> pb.Channel:
    request = pb.GetChannelRequest(channel_id=channel_id)
    return (await context.call(context.backends.channels.GetChannel, request)).channel


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
async def disconnect_channel(context: RequestContext, channel_id: ChannelId) -> pb.Channel:
    request = pb.DisconnectChannelRequest(request_id=context.request_id, channel_id=channel_id)
    return (await context.call(context.backends.channels.DisconnectChannel, request)).channel
