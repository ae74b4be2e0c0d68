"""A person's word about a delivery."""

from __future__ import annotations

import asyncio
from collections import deque

import pytest
from regie.ids.v1.prefixes import DELIVERY
from regie_chassis.boundary.ids import show_id
from regie_local.testing.clock import FakeClock
from regie_networks.absence import QUIET, Repeat
from regie_networks.draft import Remote
from regie_networks.errors import ConnectorError, FailureKind, OutcomeUnknown, Refused
from regie_publisher.channels.connecting import disconnect_channel
from regie_publisher.deliveries.resolution import (
    CallMayStillLand,
    RemoteTaken,
    RemoteUrlNotChecked,
    RemoteUrlRefused,
    RemoteUrlRequired,
)
from regie_publisher.deliveries.rivals import read_others
from regie_publisher.testing.harness import PublisherHarness
from regie_publisher.testing.network import Play

UNSAFE = [
    " ",
    "\t\n",
    "\u200b",
    "javascript:alert(1)",
    "https://a.example/\u202egpj",
    "https://a.example/" + "x" * 2048,
]
NO_POST = ["https://a.example/1", "https://fake.example/2", "https://fake.example/" + "\u6f22" * 800]


@pytest.mark.parametrize("url", [*UNSAFE, *NO_POST])
async def test_an_address_that_is_not_the_posts_is_refused(harness: PublisherHarness, url: str) -> None:
    harness.connector.script = deque([Play.LOST_AFTER])
    await harness.receive(harness.due(await harness.channel()))
    await harness.work()
    with pytest.raises(RemoteUrlRefused) as refused:
        await harness.resolve(published=True, remote_url=url)
    assert (refused.value.http_status, refused.value.field) == (422, "remote_url")
    assert await harness.states() == ["unknown"]
    settled = await harness.resolve(published=True, remote_url="https://fake.example/1")
    assert settled.remote is not None
    assert settled.remote.url == "https://fake.example/1"


async def test_nobody_knows_before_the_quiet_time_that_a_post_is_not_there(
    harness: PublisherHarness, clock: FakeClock
) -> None:
    harness.connector.repeat = Repeat.BY_PERSON
    harness.connector.script = deque([Play.LATE])
    await harness.receive(harness.due(await harness.channel()))
    await harness.work()
    with pytest.raises(CallMayStillLand, match="look again after that"):
        await harness.resolve(published=False)
    assert await harness.states() == ["unknown"]
    await clock.advance(QUIET)
    await harness.resolve(published=False)
    assert await harness.states() == ["pending"]
    [row] = await harness.rows()
    assert row.call_end_time is None


async def test_a_person_may_say_at_any_time_that_it_is_there_but_not_at_anothers_address(
    harness: PublisherHarness, clock: FakeClock
) -> None:
    channel = await harness.channel()
    harness.connector.script = deque([Play.OK, Play.LOST_AFTER])
    await harness.receive(harness.due(channel))
    await harness.work()
    await harness.receive(harness.due(channel))
    await harness.work()
    with pytest.raises(RemoteTaken):
        await harness.resolve(published=True, remote_url="https://fake.example/1")
    await harness.resolve(published=True, remote_url="https://fake.example/2")
    assert await harness.states() == ["published", "published"]


async def test_a_post_that_a_person_named_is_taken_and_another_delivery_is_named_with_it(
    harness: PublisherHarness,
) -> None:
    channel = await harness.channel()
    harness.connector.script = deque([Play.LOST_AFTER, Play.LOST_BEFORE])
    await harness.receive(harness.due(channel), harness.due(channel))
    await harness.work()
    mine, other = await harness.rows()
    await harness.resolve(published=True, remote_url=" https://fake.example/1\n", delivery_id=mine.id)
    held = await harness.rows("remote", "segment")
    assert [(row.delivery_id, row.remote_id) for row in held] == [(mine.id, "1")]
    with pytest.raises(RemoteTaken, match=f"another delivery's post, {show_id(DELIVERY, mine.id)}"):
        await harness.resolve(published=True, remote_url="https://fake.example/1", delivery_id=other.id)


async def test_a_post_of_another_text_is_not_taken_so_that_its_own_delivery_finds_it(
    harness: PublisherHarness, clock: FakeClock
) -> None:
    channel = await harness.channel()
    harness.connector.script = deque([Play.LOST_AFTER, Play.LOST_BEFORE])
    await harness.receive(harness.due(channel, texts=("one",)), harness.due(channel, texts=("another",)))
    await harness.work()
    one, another = sorted(await harness.rows(), key=lambda row: row.id)
    [post] = harness.connector.posts
    mistaken = one if post.key != one.segment_keys[0] else another
    with pytest.raises(RemoteUrlRefused, match="another text"):
        await harness.resolve(published=True, remote_url="https://fake.example/1", delivery_id=mistaken.id)
    await harness.settle(clock.advance)
    await harness.work()
    assert sorted(post.text for post in harness.connector.posts) == ["another", "one"]
    assert await harness.states() == ["published", "published"]


@pytest.mark.parametrize("error", [OutcomeUnknown("502"), Refused(FailureKind.AUTH_EXPIRED, "token revoked")])
async def test_an_address_that_cannot_be_checked_settles_nothing_and_is_not_needed(
    harness: PublisherHarness, error: ConnectorError
) -> None:
    harness.connector.script = deque([Play.LOST_AFTER])
    await harness.receive(harness.due(await harness.channel()))
    await harness.work()
    harness.connector.finds = deque([error])
    with pytest.raises(RemoteUrlNotChecked, match="leave remote_url out") as refused:
        await harness.resolve(published=True, remote_url="https://fake.example/1")
    assert (refused.value.http_status, await harness.states()) == (503, ["unknown"])
    settled = await harness.resolve(published=True)
    assert (settled.state, settled.remote) == ("published", Remote("", ""))


async def test_the_token_of_a_channel_that_was_disconnected_is_used_no_more(harness: PublisherHarness) -> None:
    channel = await harness.channel()
    harness.connector.script = deque([Play.LOST_AFTER])
    await harness.receive(harness.due(channel))
    await harness.work()
    async with harness.database.transaction() as session:
        await disconnect_channel(
            session, workspace_id=harness.workspace_id, channel_id=channel, now=harness.clock.now()
        )
    with pytest.raises(RemoteUrlNotChecked, match="connect it again"):
        await harness.resolve(published=True, remote_url="https://fake.example/1")


async def test_of_a_thread_the_part_in_question_is_settled_and_the_rest_follows(harness: PublisherHarness) -> None:
    harness.connector.script = deque([Play.OK, Play.LOST_AFTER])
    await harness.receive(harness.due(await harness.channel(), texts=("one", "two", "three")))
    await harness.work()
    with pytest.raises(RemoteUrlRequired, match="give the address of part 2"):
        await harness.resolve(published=True)
    await harness.resolve(published=True, remote_url="https://fake.example/2")
    await harness.work()
    assert await harness.states() == ["published"]
    assert [(post.text, post.reply_to) for post in harness.connector.posts] == [
        ("one", ""),
        ("two", "1"),
        ("three", "2"),
    ]


async def test_of_two_people_who_name_one_post_at_once_the_second_is_refused(harness: PublisherHarness) -> None:
    channel = await harness.channel()
    harness.connector.script = deque([Play.LOST_AFTER, Play.LOST_BEFORE])
    await harness.receive(harness.due(channel), harness.due(channel))
    await harness.work()
    both = [
        harness.resolve(published=True, remote_url="https://fake.example/1", delivery_id=row.id)
        for row in await harness.rows()
    ]
    answers = await asyncio.gather(*both, return_exceptions=True)
    assert sorted(type(answer).__name__ for answer in answers) == ["Delivery", "RemoteTaken"]
    assert sorted(await harness.states()) == ["published", "unknown"]
    [left] = [row for row in await harness.rows() if row.state == "unknown"]
    assert (left.needs_person, left.next_action_time is None) == (False, False), "the looks go on"


async def test_a_part_of_a_thread_that_is_out_is_not_taken_for_the_next(harness: PublisherHarness) -> None:
    channel = await harness.channel()
    harness.connector.script = deque([Play.OK, Play.LOST_BEFORE])
    await harness.receive(harness.due(channel, texts=("one", "two")))
    await harness.work()
    with pytest.raises(RemoteTaken, match=r"part 1, .* give the one of part 2"):
        await harness.resolve(published=True, remote_url="https://fake.example/1")
    [row] = await harness.rows()
    assert (row.state, row.next_action_time is None) == ("unknown", False), "the looks go on"


async def test_a_post_that_a_person_called_published_without_an_address_stays_a_rival(
    harness: PublisherHarness,
) -> None:
    channel = await harness.channel()
    harness.connector.script = deque([Play.LOST_AFTER, Play.LOST_BEFORE])
    await harness.receive(harness.due(channel), harness.due(channel))
    await harness.work()
    mine, _ = await harness.rows()
    await harness.resolve(published=True, delivery_id=mine.id)
    async with harness.database.reading() as session:
        others = await read_others(session, channel_id=channel, remote_ids=["1"])
    assert mine.segment_keys[0] in {rival.key for rival in others.rivals}
