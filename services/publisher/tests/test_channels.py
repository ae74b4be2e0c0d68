"""Connecting, listing and forgetting channels."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import httpx2
import pytest
from regie.ids.v1.prefixes import CHANNEL
from regie.publisher.events.v1.publisher_events_pb2 import ChannelConnected, ChannelDisconnected, ChannelShared
from regie_chassis.boundary.errors import Unprocessable
from regie_chassis.boundary.ids import new_id, show_id
from regie_chassis.data.paging import InvalidPageToken
from regie_networks.bluesky.connector import BlueskyConnector
from regie_networks.contract import Connection, Connector
from regie_networks.errors import FailureKind, Refused
from regie_networks.mastodon.connector import MastodonConnector
from regie_networks.registry import NETWORKS
from regie_networks.sandbox.connector import SandboxConnector
from regie_publisher.channels.channel import Channel, ChannelNotFound
from regie_publisher.channels.connecting import UnknownNetwork, connect_channel, disconnect_channel
from regie_publisher.channels.queries import get_channel, list_channels
from regie_publisher.channels.verification import (
    InvalidCredentials,
    NetworkBusy,
    NetworkUnreachable,
    ServerNotSupported,
)
from regie_publisher.testing.harness import PublisherHarness
from regie_publisher.testing.network import FakeConnector


async def connect(harness: PublisherHarness, network: str = "fake", token: str = "fake-ada") -> object:
    return await connect_channel(
        harness.database,
        {"fake": harness.connector},
        harness.keyring,
        workspace_id=harness.workspace_id,
        network=network,
        server_url="",
        credentials={"access_token": token},
        allowed_hosts=("fake.example:443",),
        now=harness.clock.now(),
    )


async def test_the_same_account_connected_again_is_renewed(harness: PublisherHarness) -> None:
    channel = await harness.channel()
    async with harness.database.transaction() as session:
        await disconnect_channel(
            session, workspace_id=harness.workspace_id, channel_id=channel, now=harness.clock.now()
        )
    assert await harness.channel() == channel
    async with harness.database.reading() as session:
        found = await get_channel(session, workspace_id=harness.workspace_id, channel_id=channel)
    assert (found.state, found.handle) == ("active", "ada")
    assert len(await harness.events(ChannelConnected)) == 2


async def test_disconnecting_twice_is_said_once(harness: PublisherHarness) -> None:
    channel = await harness.channel()
    for _ in range(2):
        async with harness.database.transaction() as session:
            await disconnect_channel(
                session, workspace_id=harness.workspace_id, channel_id=channel, now=harness.clock.now()
            )
    assert len(await harness.events(ChannelDisconnected)) == 1


async def test_wrong_credentials_and_unknown_networks_are_refused(harness: PublisherHarness) -> None:
    with pytest.raises(InvalidCredentials):
        await connect(harness, token="wrong")
    with pytest.raises(UnknownNetwork):
        await connect(harness, network="nowhere")


class SilentConnector(FakeConnector):
    """Never answers."""

    async def connect(self, server_url: str, credentials: Mapping[str, str]) -> Connection:
        await asyncio.Event().wait()
        return await super().connect(server_url, credentials)


async def test_a_network_that_never_answers_is_unreachable_before_the_caller_gives_up(
    harness: PublisherHarness,
) -> None:
    with pytest.raises(NetworkUnreachable, match="in time"):
        await connect_channel(
            harness.database,
            {"fake": SilentConnector()},
            harness.keyring,
            workspace_id=harness.workspace_id,
            network="fake",
            server_url="",
            credentials={"access_token": "fake-ada"},
            allowed_hosts=("fake.example:443",),
            now=harness.clock.now(),
            within=timedelta(milliseconds=20),
        )


class BusyConnector(FakeConnector):
    """Asks to wait."""

    async def connect(self, server_url: str, credentials: Mapping[str, str]) -> Connection:  # noqa: ARG002
        raise Refused(FailureKind.RATE_LIMITED, "slow down", retry_after=timedelta(seconds=90))


async def test_a_network_that_asks_to_wait_is_told_with_its_wait(harness: PublisherHarness) -> None:
    harness.connector = BusyConnector()
    with pytest.raises(NetworkBusy, match="asks to wait 90 s: slow down"):
        await connect(harness)


@pytest.mark.parametrize(
    ("network", "named"),
    [
        ("bluesky", ("`identifier`", "`app_password`")),
        ("mastodon", ("`access_token`",)),
        ("sandbox", ("`access_token`",)),
    ],
)
async def test_credentials_of_other_names_are_refused_with_the_right_ones(
    harness: PublisherHarness, network: str, named: tuple[str, ...]
) -> None:
    async with httpx2.AsyncClient(transport=httpx2.MockTransport(unasked)) as client:
        connectors: dict[str, Connector] = {
            "bluesky": BlueskyConnector(client),
            "mastodon": MastodonConnector(client),
            "sandbox": SandboxConnector(client),
        }
        with pytest.raises(InvalidCredentials) as refused:
            await connect_channel(
                harness.database,
                connectors,
                harness.keyring,
                workspace_id=harness.workspace_id,
                network=network,
                server_url="https://127.0.0.1:1",
                credentials={"identifier": "press.example.org", "password": "secret"},
                allowed_hosts=("127.0.0.1:1",),
                now=harness.clock.now(),
            )
    assert (refused.value.field, refused.value.http_status) == ("credentials", 422)
    assert all(name in refused.value.message for name in named)


def unasked(request: httpx2.Request) -> httpx2.Response:
    raise AssertionError(f"{request.url} was asked without the right credentials")


async def test_another_workspaces_channel_is_not_found(harness: PublisherHarness) -> None:
    channel = await harness.channel()
    async with harness.database.transaction() as session:
        with pytest.raises(ChannelNotFound):
            await get_channel(session, workspace_id=new_id(), channel_id=channel)
        with pytest.raises(ChannelNotFound):
            await disconnect_channel(session, workspace_id=new_id(), channel_id=channel, now=harness.clock.now())


async def test_pages_lead_through_all_channels_the_newest_first(harness: PublisherHarness) -> None:
    made = [await harness.channel(f"a{number}") for number in range(5)]
    seen: list[object] = []
    token = ""
    while True:
        async with harness.database.reading() as session:
            page = await list_channels(session, workspace_id=harness.workspace_id, page_size=2, page_token=token)
        seen += [channel.id for channel in page.items]
        token = page.next_page_token
        if not token:
            break
    assert seen == made[::-1]


@pytest.mark.parametrize("token", ["x", "eA==", "MjAyNi0wMS0wMXx4", "ü"])
async def test_a_forged_page_token_is_refused(harness: PublisherHarness, token: str) -> None:
    async with harness.database.reading() as session:
        with pytest.raises(InvalidPageToken):
            await list_channels(session, workspace_id=harness.workspace_id, page_size=0, page_token=token)


class MovingConnector(FakeConnector):
    """An account with an identity of its own, wherever it is reached."""

    async def connect(self, server_url: str, credentials: Mapping[str, str]) -> Connection:
        return replace(await super().connect(server_url, credentials), identity="did:fake:ada")


async def connect_at(
    harness: PublisherHarness, server_url: str, connector: FakeConnector, workspace_id: UUID | None = None
) -> Channel:
    return await connect_channel(
        harness.database,
        {"fake": connector},
        harness.keyring,
        workspace_id=workspace_id or harness.workspace_id,
        network="fake",
        server_url=server_url,
        credentials={"access_token": "fake-ada"},
        allowed_hosts=("old.example", "new.example", "fake.example"),
        now=harness.clock.now(),
    )


async def test_an_account_that_moved_keeps_its_channel(harness: PublisherHarness) -> None:
    old = await connect_at(harness, "https://old.example", MovingConnector())
    new = await connect_at(harness, "https://new.example", MovingConnector())
    assert new.id == old.id
    assert new.server_url == "https://new.example"
    account = await harness.accounts.account(new.id)
    assert (account.server_url, account.credentials.secrets) == ("https://new.example", {"access_token": "fake-ada"})


async def test_an_account_connected_at_two_addresses_at_once_is_one_channel(harness: PublisherHarness) -> None:
    urls = ["https://old.example", "https://new.example"] * 4
    made = await asyncio.gather(*(connect_at(harness, url, MovingConnector()) for url in urls))
    assert len({channel.id for channel in made}) == 1
    assert len(await harness.rows("channel")) == 1


@pytest.mark.parametrize(
    "url", ["https://OLD.example:443/", "old.example", " https://old.example./\u200b", "@ada@old.example"]
)
async def test_a_server_in_another_spelling_is_the_same_server(harness: PublisherHarness, url: str) -> None:
    first = await connect_at(harness, "https://old.example", FakeConnector())
    assert (await connect_at(harness, url, FakeConnector())).id == first.id


async def test_accounts_of_two_servers_with_the_same_id_are_two_channels(harness: PublisherHarness) -> None:
    old, new = [await connect_at(harness, f"https://{name}.example", FakeConnector()) for name in ("old", "new")]
    assert old.id != new.id


class EndlessConnector(FakeConnector):
    """Gives its account an id that no index can hold."""

    async def connect(self, server_url: str, credentials: Mapping[str, str]) -> Connection:
        return replace(
            await super().connect(server_url, credentials), remote_id="".join(map(chr, range(0x4E00, 0x5E00)))
        )


async def test_an_account_with_an_endless_id_is_no_error_of_ours(harness: PublisherHarness) -> None:
    with pytest.raises(ServerNotSupported, match="an id that is not 1 to 500 bytes"):
        await connect_at(harness, "", EndlessConnector())


async def test_an_account_in_two_workspaces_is_said_to_both(harness: PublisherHarness) -> None:
    alone = await connect_at(harness, "", FakeConnector())
    assert not alone.shared
    elsewhere = await connect_at(harness, "", FakeConnector(), workspace_id=new_id())
    assert elsewhere.shared
    assert elsewhere.id != alone.id
    await connect_at(harness, "", FakeConnector(), workspace_id=harness.workspace_id)  # a renewal is no news
    async with harness.database.reading() as session:
        assert (await get_channel(session, workspace_id=harness.workspace_id, channel_id=alone.id)).shared
        page = await list_channels(session, workspace_id=harness.workspace_id, page_size=0, page_token="")
    [listed] = page.items
    assert listed.shared
    assert [event.channel_id for event in await harness.events(ChannelShared)] == [show_id(CHANNEL, alone.id)]
    assert [event.shared for event in await harness.events(ChannelConnected)] == [False, True, True]
    shared = [row for row in await harness.rows("outbox") if row.type.endswith("ChannelShared")]
    assert [row.workspace_id for row in shared] == [harness.workspace_id]


async def test_another_server_that_claims_the_account_is_no_sharing(harness: PublisherHarness) -> None:
    mine = await connect_at(harness, "https://old.example", MovingConnector())
    theirs = await connect_at(harness, "https://new.example", MovingConnector(), workspace_id=new_id())
    assert not theirs.shared
    async with harness.database.reading() as session:
        assert not (await get_channel(session, workspace_id=harness.workspace_id, channel_id=mine.id)).shared
    assert await harness.events(ChannelShared) == []


async def test_a_channel_is_no_longer_shared_once_the_other_is_disconnected(harness: PublisherHarness) -> None:
    other = new_id()
    mine = await connect_at(harness, "", FakeConnector())
    theirs = await connect_at(harness, "", FakeConnector(), workspace_id=other)
    async with harness.database.transaction() as session:
        await disconnect_channel(session, workspace_id=other, channel_id=theirs.id, now=harness.clock.now())
        assert not (await get_channel(session, workspace_id=harness.workspace_id, channel_id=mine.id)).shared


@pytest.mark.parametrize(
    ("network", "server_url", "credentials", "reason", "field"),
    [
        ("mastodon", "", {"access_token": "token"}, "SERVER_NOT_SUPPORTED", "server_url"),
        ("mastodon", "https://127.0.0.1:1", {"access_token": "tok\u00e9n"}, "INVALID_CREDENTIALS", "credentials"),
        ("mastodon", "https://127.0.0.1:1", {"access_token": "one\r\ntwo"}, "INVALID_CREDENTIALS", "credentials"),
        ("sandbox", "", {"access_token": "tok\u00e9n"}, "INVALID_CREDENTIALS", "credentials"),
        ("sandbox", "", {"access_token": "a", "refresh_token": "a\r\nb"}, "INVALID_CREDENTIALS", "credentials"),
        ("mastodon", "https://\u2488", {"access_token": "token"}, "ADDRESS_REFUSED", "server_url"),
    ],
)
async def test_what_can_never_be_sent_is_refused_without_a_call(
    harness: PublisherHarness, network: str, server_url: str, credentials: dict[str, str], reason: str, field: str
) -> None:
    async with httpx2.AsyncClient(transport=httpx2.MockTransport(unasked)) as client:
        with pytest.raises(Unprocessable) as refused:
            await connect_with(harness, client, network, server_url, credentials)
    assert (refused.value.reason, refused.value.field) == (reason, field)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("status", [301, 404])
async def test_an_address_that_is_no_server_of_the_network_is_not_a_matter_of_credentials(
    harness: PublisherHarness, network: str, status: int
) -> None:
    credentials = {field.name: "token" for field in NETWORKS[network].credentials}
    page = httpx2.MockTransport(lambda _: httpx2.Response(status, html="<h1>Not Found</h1>"))
    async with httpx2.AsyncClient(transport=page) as client:
        with pytest.raises(ServerNotSupported) as refused:
            await connect_with(harness, client, network, "https://127.0.0.1:1", credentials)
    assert (refused.value.reason, refused.value.field) == ("SERVER_NOT_SUPPORTED", "server_url")


async def connect_with(
    harness: PublisherHarness, client: httpx2.AsyncClient, network: str, server_url: str, credentials: dict[str, str]
) -> Channel:
    connectors: dict[str, Connector] = {
        "bluesky": BlueskyConnector(client),
        "mastodon": MastodonConnector(client),
        "sandbox": SandboxConnector(client),
    }
    return await connect_channel(
        harness.database,
        connectors,
        harness.keyring,
        workspace_id=harness.workspace_id,
        network=network,
        server_url=server_url,
        credentials=credentials,
        allowed_hosts=("127.0.0.1:1",),
        now=harness.clock.now(),
    )


async def test_an_empty_address_is_the_sandbox_of_the_settings(harness: PublisherHarness) -> None:
    account = {"id": "ada", "handle": "ada"}
    transport = httpx2.MockTransport(lambda _: httpx2.Response(200, json=account))
    async with httpx2.AsyncClient(transport=transport) as client:
        connection = await SandboxConnector(client, main_server="http://127.0.0.1:9999/").connect(
            "", {"access_token": "sandbox-ada"}
        )
    assert connection.server_url == "http://127.0.0.1:9999"


class BoastfulConnector(FakeConnector):
    """Names its accounts at length."""

    remote_id = "1"
    handle = "ada"

    async def connect(self, server_url: str, credentials: Mapping[str, str]) -> Connection:
        return Connection(server_url or "https://fake.example", self.remote_id, self.handle, "Ada", dict(credentials))


@pytest.mark.parametrize(("name", "value"), [("handle", "u" * 1_600_001), ("remote_id", "鬱" * 4000)])
async def test_a_network_that_says_more_of_an_account_than_can_be_kept_is_refused(
    harness: PublisherHarness, name: str, value: str
) -> None:
    connector = BoastfulConnector()
    setattr(connector, name, value)
    with pytest.raises(ServerNotSupported, match=r"^The server gives the account") as refused:
        await connect_channel(
            harness.database,
            {"fake": connector},
            harness.keyring,
            workspace_id=harness.workspace_id,
            network="fake",
            server_url="",
            credentials={"access_token": "fake-ada"},
            allowed_hosts=("fake.example",),
            now=harness.clock.now(),
        )
    assert refused.value.http_status == 422
    assert len(refused.value.message) < 500
