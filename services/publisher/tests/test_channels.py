"""Connecting, listing and forgetting channels."""

from __future__ import annotations

import pytest
from regie.publisher.events.v1.publisher_events_pb2 import ChannelConnected, ChannelDisconnected
from regie_chassis.ids import new_id
from regie_publisher.channels import (
    ChannelNotFound,
    InvalidCredentials,
    UnknownNetwork,
    connect_channel,
    disconnect_channel,
    get_channel,
    list_channels,
)
from regie_publisher.paging import InvalidPageToken
from regie_publisher.testing.desk import Desk


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
