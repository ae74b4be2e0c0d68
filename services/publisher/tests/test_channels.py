"""Connecting, listing and forgetting channels."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import timedelta

import httpx2
import pytest
from regie.publisher.events.v1.publisher_events_pb2 import ChannelConnected, ChannelDisconnected
from regie_chassis.ids import new_id
from regie_chassis.paging import InvalidPageToken
from regie_publisher.channels import (
    ChannelNotFound,
    InvalidCredentials,
    NetworkUnreachable,
    UnknownNetwork,
    connect_channel,
    disconnect_channel,
    get_channel,
    list_channels,
)
from regie_publisher.connectors.bluesky.connector import BlueskyConnector
from regie_publisher.connectors.connector import Connection, Connector
from regie_publisher.connectors.mastodon.connector import MastodonConnector
from regie_publisher.connectors.sandbox import SandboxConnector
from regie_publisher.testing.desk import Desk
from regie_publisher.testing.network import FakeConnector


async def connect(desk: Desk, network: str = "fake", token: str = "fake-ada") -> object:
    return await connect_channel(
        desk.database,
        {"fake": desk.connector},
        desk.keyring,
        workspace_id=desk.workspace_id,
        network=network,
        server_url="",
        credentials={"access_token": token},
        allowed_hosts=("fake.example",),
        now=desk.clock.now(),
    )


async def test_the_same_account_connected_again_is_renewed(desk: Desk) -> None:
    channel = await desk.channel()
    async with desk.database.transaction() as session:
        await disconnect_channel(session, workspace_id=desk.workspace_id, channel_id=channel, now=desk.clock.now())
    assert await desk.channel() == channel
    async with desk.database.reading() as session:
        found = await get_channel(session, workspace_id=desk.workspace_id, channel_id=channel)
    assert (found.state, found.handle) == ("active", "ada")
    assert len(await desk.said(ChannelConnected)) == 2


async def test_disconnecting_twice_is_said_once(desk: Desk) -> None:
    channel = await desk.channel()
    for _ in range(2):
        async with desk.database.transaction() as session:
            await disconnect_channel(session, workspace_id=desk.workspace_id, channel_id=channel, now=desk.clock.now())
    assert len(await desk.said(ChannelDisconnected)) == 1


async def test_wrong_credentials_and_unknown_networks_are_refused(desk: Desk) -> None:
    with pytest.raises(InvalidCredentials):
        await connect(desk, token="wrong")
    with pytest.raises(UnknownNetwork):
        await connect(desk, network="nowhere")


class SilentConnector(FakeConnector):
    """Never answers."""

    async def connect(self, server_url: str, credentials: Mapping[str, str]) -> Connection:
        await asyncio.Event().wait()
        return await super().connect(server_url, credentials)


async def test_a_network_that_never_answers_is_unreachable_before_the_caller_gives_up(desk: Desk) -> None:
    with pytest.raises(NetworkUnreachable, match="in time"):
        await connect_channel(
            desk.database,
            {"fake": SilentConnector()},
            desk.keyring,
            workspace_id=desk.workspace_id,
            network="fake",
            server_url="",
            credentials={"access_token": "fake-ada"},
            allowed_hosts=("fake.example",),
            now=desk.clock.now(),
            within=timedelta(milliseconds=20),
        )


@pytest.mark.parametrize(
    ("network", "named"),
    [
        ("bluesky", ("`identifier`", "`app_password`")),
        ("mastodon", ("`access_token`",)),
        ("sandbox", ("`access_token`",)),
    ],
)
async def test_credentials_of_other_names_are_refused_with_the_right_ones(
    desk: Desk, network: str, named: tuple[str, ...]
) -> None:
    async with httpx2.AsyncClient(transport=httpx2.MockTransport(unasked)) as client:
        connectors: dict[str, Connector] = {
            "bluesky": BlueskyConnector(client),
            "mastodon": MastodonConnector(client),
            "sandbox": SandboxConnector(client),
        }
        with pytest.raises(InvalidCredentials) as refused:
            await connect_channel(
                desk.database,
                connectors,
                desk.keyring,
                workspace_id=desk.workspace_id,
                network=network,
                server_url="https://127.0.0.1:1",
                credentials={"identifier": "press.example.org", "password": "secret"},
                allowed_hosts=("127.0.0.1",),
                now=desk.clock.now(),
            )
    assert (refused.value.field, refused.value.http_status) == ("credentials", 422)
    assert all(name in refused.value.message for name in named)


def unasked(request: httpx2.Request) -> httpx2.Response:
    raise AssertionError(f"{request.url} was asked without the right credentials")


async def test_another_workspaces_channel_is_not_found(desk: Desk) -> None:
    channel = await desk.channel()
    async with desk.database.transaction() as session:
        with pytest.raises(ChannelNotFound):
            await get_channel(session, workspace_id=new_id(), channel_id=channel)
        with pytest.raises(ChannelNotFound):
            await disconnect_channel(session, workspace_id=new_id(), channel_id=channel, now=desk.clock.now())


async def test_pages_lead_through_all_channels_the_newest_first(desk: Desk) -> None:
    made = [await desk.channel(f"a{number}") for number in range(5)]
    seen: list[object] = []
    token = ""
    while True:
        async with desk.database.reading() as session:
            page, token = await list_channels(session, workspace_id=desk.workspace_id, page_size=2, page_token=token)
        seen += [channel.id for channel in page]
        if not token:
            break
    assert seen == made[::-1]


@pytest.mark.parametrize("token", ["x", "eA==", "MjAyNi0wMS0wMXx4", "ü"])
async def test_a_forged_page_token_is_refused(desk: Desk, token: str) -> None:
    async with desk.database.reading() as session:
        with pytest.raises(InvalidPageToken):
            await list_channels(session, workspace_id=desk.workspace_id, page_size=0, page_token=token)


class BoastfulConnector(FakeConnector):
    """Names its accounts at length."""

    remote_id = "1"
    handle = "ada"

    async def connect(self, server_url: str, credentials: Mapping[str, str]) -> Connection:
        return Connection(server_url or "https://fake.example", self.remote_id, self.handle, "Ada", dict(credentials))


@pytest.mark.parametrize(("name", "value"), [("handle", "u" * 1_600_001), ("remote_id", "鬱" * 4000)])
async def test_a_network_that_says_more_of_an_account_than_can_be_kept_is_refused(
    desk: Desk, name: str, value: str
) -> None:
    connector = BoastfulConnector()
    setattr(connector, name, value)
    with pytest.raises(InvalidCredentials, match="The server gives the account") as refused:
        await connect_channel(
            desk.database,
            {"fake": connector},
            desk.keyring,
            workspace_id=desk.workspace_id,
            network="fake",
            server_url="",
            credentials={"access_token": "fake-ada"},
            allowed_hosts=("fake.example",),
            now=desk.clock.now(),
        )
    assert refused.value.http_status == 422
    assert len(refused.value.message) < 500
