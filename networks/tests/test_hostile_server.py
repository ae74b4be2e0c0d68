"""Mastodon's connector against a hostile server: every response has a bounded effect, and an error with a reason."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx2
import pytest
from regie_networks.draft import Account, Draft, Remote, Segment
from regie_networks.errors import ConnectorError, OutcomeUnknown, Refused
from regie_networks.http import call
from regie_networks.mastodon.connector import MastodonConnector
from regie_networks.mastodon.testing.hostile_server import Knobs, many_likers, serve
from regie_networks.mastodon.testing.server import START
from regie_networks.observation import Observation, Unread
from regie_networks.testing.fakes import FakeCredentials

TOKEN = {"access_token": "x"}


@pytest.fixture
def knobs() -> Knobs:
    return Knobs()


@pytest.fixture
async def url(knobs: Knobs) -> AsyncIterator[str]:
    async with serve(knobs) as address:
        yield address


@pytest.fixture
async def mastodon() -> AsyncIterator[MastodonConnector]:
    async with httpx2.AsyncClient(trust_env=False) as client:
        yield MastodonConnector(client)


def account(url: str) -> Account:
    return Account(url, "1", "evil@evil.example", FakeCredentials(TOKEN))


def draft(url: str) -> Draft:
    return Draft(account(url), [Segment("key", "hello")], "", "", START)


async def test_it_speaks_well_enough_to_be_connected_and_published_to(
    knobs: Knobs, url: str, mastodon: MastodonConnector
) -> None:
    connection = await mastodon.connect(url, TOKEN)
    assert connection.handle == "evil@evil.example"
    assert await mastodon.publish(draft(url), 0) == Remote("1", "https://evil.example/@evil/1")
    assert knobs.published == ["hello"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("username", "u" * 800_000),
        ("account_id", "鬱" * 4000),
        ("display_name", "d" * 501),
        ("account_id", "../../x\n"),
    ],
)
async def test_an_account_that_is_too_much_is_refused(
    knobs: Knobs, url: str, mastodon: MastodonConnector, name: str, value: str
) -> None:
    setattr(knobs, name, value)
    with pytest.raises(Refused, match="The server gives the account"):
        await mastodon.connect(url, TOKEN)


@pytest.mark.parametrize("domain", ["d" * 800_000, "bank.example/@", "a b"])
async def test_a_domain_that_is_none_is_the_servers_host(
    knobs: Knobs, url: str, mastodon: MastodonConnector, domain: str
) -> None:
    knobs.domain = domain
    assert (await mastodon.connect(url, TOKEN)).handle == f"evil@{url.removeprefix('http://')}"


async def test_a_status_with_an_address_that_harms_has_none(
    knobs: Knobs, url: str, mastodon: MastodonConnector
) -> None:
    knobs.status_url = "javascript:alert(document.domain)//"
    assert await mastodon.publish(draft(url), 0) == Remote("1", "")


@pytest.mark.parametrize("status_id", ["鬱" * 4000, "1\u202e"])
async def test_a_status_with_an_id_that_is_none_is_unknown(
    knobs: Knobs, url: str, mastodon: MastodonConnector, status_id: str
) -> None:
    knobs.status_id = status_id
    with pytest.raises(OutcomeUnknown):
        await mastodon.publish(draft(url), 0)


async def test_ids_that_are_paths_stay_where_they_belong(knobs: Knobs, url: str, mastodon: MastodonConnector) -> None:
    knobs.likers, knobs.favourites = many_likers(1), 1
    await mastodon.observe(account(url), [Remote("../../admin?x=1#", "")])
    targets = [target for _, target in knobs.seen]
    assert targets[0] == "/api/v1/statuses/..%2F..%2Fadmin%3Fx%3D1%23"
    assert targets[1].startswith("/api/v1/statuses/..%2F..%2Fadmin%3Fx%3D1%23/favourited_by?")


@pytest.mark.parametrize("favourites", [2**63, 10**15 + 1, -1, 1.5, True, "many"])
async def test_numbers_that_are_none_are_left_out(
    knobs: Knobs, url: str, mastodon: MastodonConnector, favourites: object
) -> None:
    knobs.favourites = favourites
    [observation] = await mastodon.observe(account(url), [Remote("1", "")])
    assert isinstance(observation, Observation)
    assert "likes" not in observation.values


@pytest.mark.parametrize("id_length", [0, 603])
async def test_a_crowd_is_a_page(knobs: Knobs, url: str, mastodon: MastodonConnector, id_length: int) -> None:
    knobs.likers, knobs.favourites = many_likers(1000 if id_length else 20_000, id_length=id_length), 20_000
    [observation] = await mastodon.observe(account(url), [Remote("1", "")])
    assert isinstance(observation, Observation)
    assert len(observation.engagements) == (0 if id_length else 80)


@pytest.mark.parametrize("manner", ["hang", "trickle head", "trickle body"])
async def test_what_never_ends_is_ended(knobs: Knobs, url: str, manner: str) -> None:
    knobs.manner = manner
    async with httpx2.AsyncClient(trust_env=False) as client:
        with pytest.raises(OutcomeUnknown):
            await call(client, "GET", f"{url}/api/v2/instance", timeout=0.2)


@pytest.mark.parametrize("manner", ["crumbs", "cut", "utf-16", "deep", "endless"])
async def test_an_answer_that_cannot_be_read_is_no_answer(
    knobs: Knobs, url: str, mastodon: MastodonConnector, manner: str
) -> None:
    knobs.manner, knobs.crumbs = manner, 20_000
    with pytest.raises(ConnectorError):
        await mastodon.connect(url, TOKEN)
    with pytest.raises(OutcomeUnknown):
        await mastodon.publish(draft(url), 0)
    [unread] = await mastodon.observe(account(url), [Remote("1", "")])
    assert isinstance(unread, Unread)


async def test_a_server_that_hangs_at_one_status_leaves_the_rest_for_later(
    knobs: Knobs, url: str, mastodon: MastodonConnector
) -> None:
    knobs.manner, knobs.harmful = "cut", "/api/v1/statuses/2"
    remotes = [Remote(str(number), "") for number in range(1, 4)]
    async with asyncio.timeout(10):
        seen = await mastodon.observe(account(url), remotes)
    assert [type(one) for one in seen] == [Observation, Unread, Observation]
