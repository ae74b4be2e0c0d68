"""The Bluesky connector against a real Bluesky network."""

from __future__ import annotations

import asyncio
import io
import itertools
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime
from uuid import uuid4

import httpx2
import pytest
from PIL import Image
from regie_local.testing.bluesky import BlueskyNetwork
from regie_local.testing.waiting import until
from regie_networks.bluesky.connector import BlueskyConnector
from regie_networks.draft import Account, Draft, Picture, Remote, Segment
from regie_networks.errors import FailureKind, NotNamed, OutcomeUnknown, Refused
from regie_networks.observation import Observation
from regie_networks.rendition import Bounds, Rendition
from regie_networks.testing.fakes import FakeCredentials, MemoryHandles, alone
from regie_publisher.media.images.pool import PicturePool
from regie_publisher.media.images.process import Limits

pytestmark = pytest.mark.networks

COMPOSED = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)

_numbers = itertools.count(1)


@pytest.fixture
async def connector() -> AsyncIterator[BlueskyConnector]:
    async with httpx2.AsyncClient() as client:
        yield BlueskyConnector(client)


@pytest.fixture
async def pool() -> AsyncIterator[PicturePool]:
    pool = PicturePool(workers=1, limits=Limits(cpu_seconds=30, wall_seconds=60))
    yield pool
    await pool.stop()


@pytest.fixture
async def account(bluesky_network: BlueskyNetwork, connector: BlueskyConnector) -> Account:
    """A fresh account, connected."""
    return await _connect(bluesky_network, connector)


async def _connect(network: BlueskyNetwork, connector: BlueskyConnector, *, limited: bool = False) -> Account:
    made = network.create_account(f"person{next(_numbers)}.test", limited=limited)
    server = network.limited_pds_url if limited else network.pds_url
    secrets = {"identifier": made.identifier, "app_password": made.password}
    found = await connector.connect(server, secrets)
    assert (found.server_url, found.remote_id, found.handle) == (server, made.did, made.identifier)
    return Account(found.server_url, found.remote_id, found.handle, FakeCredentials(found.secrets))


def _draft(connector: BlueskyConnector, account: Account, *texts: str, pictures: tuple[Picture, ...] = ()) -> Draft:
    now = datetime.now(UTC)
    segments = [Segment(connector.new_key(now), text) for text in texts]
    segments[0] = replace(segments[0], pictures=pictures)
    return Draft(account, segments, visibility="public", language="en", compose_time=COMPOSED)


async def _publish(connector: BlueskyConnector, draft: Draft) -> list[Remote]:
    connector.review(draft)
    if connector.needs_preparation(draft):
        await connector.prepare(draft, MemoryHandles())
    for index in range(len(draft.remotes), len(draft.segments)):
        remote = await connector.publish(draft, index)
        assert isinstance(remote, Remote)
        draft.remotes.append(remote)
    return draft.remotes


def _picture(size: tuple[int, int], *, noise: bool = False) -> Picture:
    image = Image.effect_noise(size, 90) if noise else Image.new("RGB", size, "teal")
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    data = buffer.getvalue()

    async def read() -> bytes:
        return data

    return Picture(f"media-{size}", "Ein blaues Rechteck 🟦", "image/png", len(data), *size, read)


async def test_a_post_is_in_the_repository_with_its_links_mentions_and_hashtags(
    bluesky_network: BlueskyNetwork, connector: BlueskyConnector, account: Account
) -> None:
    other = bluesky_network.create_account(f"person{next(_numbers)}.test")
    text = f"👋🏽 @{other.identifier} and @nobody.test: https://example.com/a?b=ü #Größe #2026"
    [remote] = await _publish(connector, _draft(connector, account, text))

    [record] = bluesky_network.records(account.remote_id)
    assert remote.id == f"{record['uri']}|{record['cid']}"
    assert remote.url == f"https://bsky.app/profile/{account.remote_id}/post/{record['uri'].rpartition('/')[2]}"
    value = record["value"]
    assert (value["text"], value["langs"], value["createdAt"]) == (text, ["en"], "2026-03-01T12:00:00.123Z")
    cuts = [
        text.encode()[facet["index"]["byteStart"] : facet["index"]["byteEnd"]].decode() for facet in value["facets"]
    ]
    assert cuts == [f"@{other.identifier}", "https://example.com/a?b=ü", "#Größe"]
    assert [facet["features"][0].get("did") for facet in value["facets"]] == [other.did, None, None]


async def test_the_same_bytes_sent_again_are_the_same_one_post(
    bluesky_network: BlueskyNetwork, connector: BlueskyConnector, account: Account
) -> None:
    draft = _draft(connector, account, "once")
    first, second = await connector.publish(draft, 0), await connector.publish(draft, 0)
    assert first == second
    assert len(bluesky_network.records(account.remote_id)) == 1


async def test_six_parallel_attempts_make_one_post(
    bluesky_network: BlueskyNetwork, connector: BlueskyConnector, account: Account
) -> None:
    draft = _draft(connector, account, "once, six times at once")
    remotes = await asyncio.gather(*(connector.publish(draft, 0) for _ in range(6)))
    assert len(set(remotes)) == 1
    assert len(bluesky_network.records(account.remote_id)) == 1


class LosesAnswers(httpx2.AsyncHTTPTransport):
    """Brings every request to the network, and no answer to a write back."""

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        response = await super().handle_async_request(request)
        if not request.url.path.endswith("putRecord"):
            return response
        await response.aread()
        raise httpx2.ReadTimeout("the answer was lost")


async def test_a_post_whose_answer_was_lost_is_found_and_not_doubled(
    bluesky_network: BlueskyNetwork, connector: BlueskyConnector, account: Account
) -> None:
    draft = _draft(connector, account, "lost on the way back")
    async with httpx2.AsyncClient(transport=LosesAnswers()) as client:
        with pytest.raises(OutcomeUnknown):
            await BlueskyConnector(client).publish(draft, 0)
    found = await connector.find(draft, 0, alone())
    assert found == await connector.publish(draft, 0)
    assert len(bluesky_network.records(account.remote_id)) == 1


async def test_other_words_under_a_used_key_are_refused_and_the_first_stay(
    bluesky_network: BlueskyNetwork, connector: BlueskyConnector, account: Account
) -> None:
    draft = _draft(connector, account, "the first words")
    await _publish(connector, draft)
    changed = replace(draft, segments=[replace(draft.segments[0], text="other words")], remotes=[])
    with pytest.raises(Refused) as refused:
        await connector.publish(changed, 0)
    assert refused.value.kind is FailureKind.INTERNAL
    assert refused.value.retry_after is None
    [record] = bluesky_network.records(account.remote_id)
    assert record["value"]["text"] == "the first words"


@pytest.mark.parametrize(
    ("text", "taken"),
    [
        ("x" * 300, True),
        ("x" * 301, False),
        ("👨‍👩‍👧‍👦" * 120, True),
        ("👨‍👩‍👧‍👦" * 121, False),
        ("क्ष" * 300, True),
        ("क्ष" * 301, False),
        ("🇩🇪🇫🇷" * 150, True),
        ("🇩🇪🇫🇷" * 150 + "!", False),
    ],
)
async def test_the_network_counts_as_the_review_does(
    connector: BlueskyConnector, account: Account, text: str, taken: bool
) -> None:
    draft = _draft(connector, account, text)
    for verdict in (_verdict(connector.review, draft), await _outcome(connector, draft)):
        assert verdict is (None if taken else FailureKind.CONTENT_REJECTED)


def _verdict(review: Callable[[Draft], None], draft: Draft) -> FailureKind | None:
    try:
        review(draft)
    except Refused as refused:
        return refused.kind
    return None


async def _outcome(connector: BlueskyConnector, draft: Draft) -> FailureKind | None:
    try:
        await connector.publish(draft, 0)
    except Refused as refused:
        return refused.kind
    return None


async def test_a_picture_goes_out_with_its_alt_text_and_shape(
    bluesky_network: BlueskyNetwork, connector: BlueskyConnector, account: Account
) -> None:
    await _publish(connector, _draft(connector, account, "look", pictures=(_picture((64, 48)),)))
    [record] = bluesky_network.records(account.remote_id)
    [image] = record["value"]["embed"]["images"]
    assert (image["alt"], image["aspectRatio"]) == ("Ein blaues Rechteck 🟦", {"width": 64, "height": 48})
    assert image["image"]["mimeType"] == "image/png"


async def test_a_picture_over_the_limit_is_made_smaller(
    bluesky_network: BlueskyNetwork, connector: BlueskyConnector, account: Account, pool: PicturePool
) -> None:
    large = _picture((2400, 1800), noise=True)
    assert large.size > 2_000_000

    async def fit(bounds: Bounds) -> Rendition:
        return await pool.fit(await large.read(), bounds, workspace_id=uuid4())

    picture = replace(large, fit=fit)
    await _publish(connector, _draft(connector, account, "large", pictures=(picture,)))
    [record] = bluesky_network.records(account.remote_id)
    [image] = record["value"]["embed"]["images"]
    assert image["image"]["size"] <= 2_000_000
    assert image["image"]["mimeType"] == "image/jpeg"
    assert image["aspectRatio"]["width"] * 3 == image["aspectRatio"]["height"] * 4


async def test_a_thread_of_three_hangs_together(
    bluesky_network: BlueskyNetwork, connector: BlueskyConnector, account: Account
) -> None:
    await _publish(connector, _draft(connector, account, "one", "two", "three"))
    records = {record["value"]["text"]: record for record in bluesky_network.records(account.remote_id)}
    refs = {text: {"uri": record["uri"], "cid": record["cid"]} for text, record in records.items()}
    assert "reply" not in records["one"]["value"]
    assert records["two"]["value"]["reply"] == {"root": refs["one"], "parent": refs["one"]}
    assert records["three"]["value"]["reply"] == {"root": refs["one"], "parent": refs["two"]}


async def test_ten_callers_with_an_expired_session_renew_it_once(
    bluesky_network: BlueskyNetwork, connector: BlueskyConnector, account: Account
) -> None:
    expired = bluesky_network.expired_token(account.remote_id)
    credentials = FakeCredentials({**account.credentials.secrets, "access_jwt": expired})
    drafts = [_draft(connector, replace(account, credentials=credentials), f"post {n}") for n in range(10)]
    await asyncio.gather(*(connector.publish(draft, 0) for draft in drafts))
    assert len(credentials.renewals) == 1
    assert credentials.secrets["access_jwt"] != expired
    assert len(bluesky_network.records(account.remote_id)) == 10


async def test_a_session_that_cannot_be_renewed_needs_a_person(
    bluesky_network: BlueskyNetwork, connector: BlueskyConnector, account: Account
) -> None:
    expired = bluesky_network.expired_token(account.remote_id)
    credentials = FakeCredentials({**account.credentials.secrets, "access_jwt": expired, "refresh_jwt": expired})
    with pytest.raises(Refused) as refused:
        await connector.publish(_draft(connector, replace(account, credentials=credentials), "never seen"), 0)
    assert refused.value.kind is FailureKind.AUTH_EXPIRED
    assert not bluesky_network.records(account.remote_id)


async def test_a_wrong_password_is_told_apart(
    bluesky_network: BlueskyNetwork, connector: BlueskyConnector, account: Account
) -> None:
    wrong = {"identifier": account.handle, "app_password": "abcd-efgh-ijkl-mnop"}
    with pytest.raises(Refused) as refused:
        await connector.connect(bluesky_network.pds_url, wrong)
    assert refused.value.kind is FailureKind.AUTH_EXPIRED


async def test_find_sees_what_is_there_and_proves_what_is_not(connector: BlueskyConnector, account: Account) -> None:
    draft = _draft(connector, account, "there", "not there yet")
    [remote] = [await connector.publish(draft, 0)]
    assert await connector.find(draft, 0, alone()) == remote
    assert await connector.find(draft, 1, alone()) is None


async def test_the_post_that_a_person_names_is_the_repositorys_own(
    connector: BlueskyConnector, account: Account
) -> None:
    thread = _draft(connector, account, "one", "two")
    first, second = await _publish(connector, thread)
    assert await connector.named(replace(thread, remotes=[first]), 1, second.url, alone()) == second
    by_handle = first.url.replace(account.remote_id, account.handle.upper())
    assert await connector.named(replace(thread, remotes=[]), 0, by_handle, alone()) == first
    for index, url in ((1, first.url), (0, second.url), (0, first.url[:-1]), (0, f"{first.url}x")):
        with pytest.raises(NotNamed):
            await connector.named(replace(thread, remotes=[first][:index]), index, url, alone())


async def test_a_spent_write_budget_says_when_to_try_again(
    bluesky_network: BlueskyNetwork, connector: BlueskyConnector
) -> None:
    account = await _connect(bluesky_network, connector, limited=True)
    bluesky_network.spend_write_budget(account.remote_id)
    draft = _draft(connector, account, "too much")
    with pytest.raises(Refused) as refused:
        await connector.publish(draft, 0)
    assert refused.value.kind is FailureKind.RATE_LIMITED
    assert refused.value.retry_after is not None
    assert 60 < refused.value.retry_after.total_seconds() <= 3600
    assert await connector.find(draft, 0, alone()) is None


async def test_the_numbers_of_a_post_are_those_of_its_readers(
    bluesky_network: BlueskyNetwork, connector: BlueskyConnector, account: Account
) -> None:
    [seen, unseen] = [(await _publish(connector, _draft(connector, account, text)))[0] for text in ("a", "b")]
    gone = Remote(f"{seen.id.partition('|')[0][:-3]}zzz|{seen.id.partition('|')[2]}", "")
    uri, _, cid = seen.id.partition("|")
    readers = [bluesky_network.create_account(f"person{next(_numbers)}.test") for _ in range(2)]
    for reader in readers:
        bluesky_network.like(reader.did, uri, cid)
    bluesky_network.repost(readers[0].did, uri, cid)
    bluesky_network.reply(readers[1].did, uri, cid, "well said")

    expected = {"likes": 2, "replies": 1, "reposts": 1, "quotes": 0}

    async def observed() -> dict[str, Observation]:
        observations = {one.remote_id: one for one in await connector.observe(account, [seen, unseen, gone])}
        arrived = (
            seen.id in observations and unseen.id in observations and dict(observations[seen.id].values) == expected
        )
        return observations if arrived else {}

    observations = await until(observed, what="the readers' reactions")
    assert set(observations) == {seen.id, unseen.id}
    assert set(observations[unseen.id].values.values()) == {0}
    likers = {(one.actor_id, one.actor_handle, one.kind) for one in observations[seen.id].engagements}
    assert likers == {(reader.did, reader.identifier, "like") for reader in readers}
