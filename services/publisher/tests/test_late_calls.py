"""Calls whose answer was lost and that land later: nothing is said too early, and nothing is sent twice."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import replace
from datetime import timedelta

import pytest
from regie.publisher.events.v1.publisher_events_pb2 import (
    FAILURE_KIND_DUPLICATE_CONTENT,
    ChannelNeedsAttention,
    DeliveryCancelled,
    DeliveryFailed,
    DeliveryMissed,
    DeliveryUnknown,
    PostPublished,
)
from regie_chassis.ids import DELIVERY, POST, new_id, parse_id, show_id
from regie_chassis.testing.clock import FakeClock
from regie_publisher.channels.connecting import disconnect_channel
from regie_publisher.connectors.connector import (
    QUIET,
    CannotTell,
    ConnectorError,
    FailureKind,
    OutcomeUnknown,
    Refused,
    Remote,
    Repeat,
)
from regie_publisher.deliveries.delivery import LEASE, MARGIN
from regie_publisher.deliveries.queries import list_deliveries
from regie_publisher.deliveries.resolution import (
    CallMayStillLand,
    RemoteTaken,
    RemoteUrlNotChecked,
    RemoteUrlRefused,
    RemoteUrlRequired,
)
from regie_publisher.deliveries.rivals import read_others
from regie_publisher.fairness.hosts import FIRST_PAUSE
from regie_publisher.testing.harness import NewHarness, PublisherHarness
from regie_publisher.testing.network import Play

MOMENT = timedelta(seconds=3)


@pytest.mark.parametrize("lateness", [5, 60, 119])
async def test_a_call_that_lands_within_the_quiet_time_is_found_and_not_repeated(
    harness: PublisherHarness, clock: FakeClock, lateness: int
) -> None:
    harness.connector.script = deque([Play.LATE])
    harness.connector.lateness = deque([timedelta(seconds=lateness)])
    await harness.receive(harness.due(await harness.channel()))
    await harness.work()
    await harness.settle(clock.advance)
    assert await harness.states() == ["published"]
    assert len(harness.connector.published()) == 1
    assert len(harness.connector.posts) == 1


async def test_a_call_that_never_lands_is_made_again_after_the_quiet_time(
    harness: PublisherHarness, clock: FakeClock
) -> None:
    harness.connector.script = deque([Play.LOST_BEFORE])
    event = harness.due(await harness.channel())
    await harness.receive(event)
    await harness.work()
    lost = clock.now()
    await clock.advance(MOMENT)
    await harness.reconciler.find_unknown()
    async with harness.database.reading() as session:
        post_id = parse_id(POST, event.message.post_id)
        [shown] = (await list_deliveries(session, workspace_id=harness.workspace_id, post_id=post_id)).items
    assert (shown.state, shown.call_end, shown.quiet_end) == ("unknown", lost, lost + QUIET)
    assert shown.next_lookup is not None
    assert clock.now() < shown.next_lookup <= lost + QUIET
    assert "may still land until" in shown.changes[-1].network_message
    await harness.settle(clock.advance)
    assert clock.now() >= lost + QUIET
    await harness.work()
    assert await harness.states() == ["published"]
    assert len(harness.connector.published()) == 2
    assert len(harness.connector.posts) == 1
    [unknown] = await harness.events(DeliveryUnknown)
    assert unknown.quiet_end_time.ToDatetime() - unknown.call_end_time.ToDatetime() == QUIET
    assert unknown.HasField("next_look_time")


async def test_under_a_key_of_its_own_a_post_is_written_again_at_once(
    harness: PublisherHarness, clock: FakeClock
) -> None:
    harness.connector.repeat = Repeat.AT_ONCE
    harness.connector.script = deque([Play.LATE])
    await harness.receive(harness.due(await harness.channel()))
    await harness.work()
    await clock.advance(MOMENT)
    await harness.reconciler.find_unknown()
    await clock.advance(MOMENT)
    await harness.work()
    assert await harness.states() == ["published"]
    await clock.advance(QUIET)
    harness.connector.land()
    assert len(harness.connector.posts) == 1


async def test_a_server_that_honours_the_key_gets_one_call_at_a_time(
    harness: PublisherHarness, clock: FakeClock
) -> None:
    harness.connector.repeat = Repeat.UNDER_KEY
    harness.connector.script = deque([Play.LATE])
    await harness.receive(harness.due(await harness.channel()))
    await harness.work()
    for _ in range(9):
        await clock.advance(MOMENT)
        await harness.reconciler.find_unknown()
        await harness.work()
    assert len(harness.connector.published()) == 1, "the first may be at work there"
    await harness.settle(clock.advance)
    await harness.work()
    assert len(harness.connector.published()) == 2
    assert await harness.states() == ["published"]


@pytest.mark.parametrize("play", [Play.LATE, Play.LOST_AFTER, Play.LOST_BEFORE])
async def test_where_a_look_cannot_tell_whose_a_post_is_the_same_call_under_its_key_can(
    harness: PublisherHarness, clock: FakeClock, play: Play
) -> None:
    harness.connector.repeat = Repeat.UNDER_KEY
    harness.connector.script = deque([play])
    harness.connector.finds = deque([CannotTell("another delivery has the same content")] * 50)
    await harness.receive(harness.due(await harness.channel()))
    await harness.work()
    lost = clock.now()
    await harness.settle(clock.advance)
    await harness.work()
    assert clock.now() >= lost + QUIET / 4
    assert await harness.states() == ["published"]
    assert len(harness.connector.published()) == 2
    await clock.advance(QUIET)
    harness.connector.land()
    assert len(harness.connector.posts) == 1


async def to_its_second_call(
    harness: PublisherHarness, clock: FakeClock, second: Play, *, miss_after: timedelta = timedelta(minutes=10)
) -> None:
    """Loses the first call, which may land 100 s later, and lets the second one under the same key fail."""
    harness.connector.repeat = Repeat.UNDER_KEY
    harness.connector.script = deque([Play.LATE, second])
    await harness.receive(harness.due(await harness.channel(), miss_after=miss_after))
    await harness.work()
    await harness.settle(clock.advance)
    await harness.work()
    assert len(harness.connector.published()) == 2


@pytest.mark.parametrize("second", [Play.REFUSE, Play.EXPIRE, Play.NOT_SENT, Play.LIMIT])
async def test_a_refusal_of_the_second_call_says_nothing_of_the_first(
    harness: PublisherHarness, clock: FakeClock, second: Play
) -> None:
    await to_its_second_call(harness, clock, second)
    assert await harness.events(DeliveryFailed) == []
    for _ in range(9):
        await harness.settle(clock.advance)
        await harness.work()
    assert await harness.states() == ["published"]
    assert len(harness.connector.posts) == 1


async def test_a_refusal_stands_once_nothing_can_land_any_more(harness: PublisherHarness, clock: FakeClock) -> None:
    harness.connector.repeat = Repeat.UNDER_KEY
    harness.connector.script = deque([Play.LOST_BEFORE, *[Play.REFUSE] * 30])
    await harness.receive(harness.due(await harness.channel()))
    lost = clock.now()
    for _ in range(12):
        await harness.work()
        await harness.settle(clock.advance)
    assert await harness.states() == ["failed"]
    [event] = await harness.events(DeliveryFailed)
    assert event.network_message == "not with us"
    assert (await harness.rows("delivery_change"))[-1].time >= lost + QUIET


@pytest.mark.parametrize("lands", [True, False])
async def test_a_post_that_may_still_land_is_not_called_cancelled(
    harness: PublisherHarness, clock: FakeClock, lands: bool
) -> None:
    event = harness.due(await harness.channel())
    harness.connector.repeat = Repeat.UNDER_KEY
    harness.connector.script = deque([Play.LATE if lands else Play.LOST_BEFORE])
    await harness.receive(event)
    await harness.work()
    await harness.settle(clock.advance)
    assert await harness.states() == ["pending"], "it would be repeated under its key"
    await harness.cancel(event)
    await harness.work()
    assert await harness.events(DeliveryCancelled) == []
    assert len(harness.connector.published()) == 1, "a cancelled post is not repeated either"
    await harness.settle(clock.advance)
    await harness.work()
    assert await harness.states() == (["published"] if lands else ["cancelled"])
    assert len(harness.connector.posts) == int(lands)


@pytest.mark.parametrize("repeat", [Repeat.AFTER_QUIET, Repeat.UNDER_KEY, Repeat.AT_ONCE])
@pytest.mark.parametrize("lands", [True, False])
async def test_a_post_that_may_still_land_is_not_called_missed(
    harness: PublisherHarness, clock: FakeClock, lands: bool, repeat: Repeat
) -> None:
    harness.connector.repeat = repeat
    harness.connector.script = deque([Play.LATE if lands else Play.LOST_BEFORE])
    await harness.receive(harness.due(await harness.channel(), miss_after=timedelta(seconds=2)))
    await harness.work()
    await clock.advance(MOMENT)
    await harness.work()
    await harness.reconciler.find_unknown()
    await harness.work()
    assert await harness.events(DeliveryMissed) == []
    await harness.settle(clock.advance)
    await harness.work()
    assert await harness.states() == (["published"] if lands else ["missed"])
    assert len(harness.connector.posts) == int(lands)


async def test_a_network_that_cannot_be_read_is_for_a_person_at_once(
    harness: PublisherHarness, clock: FakeClock
) -> None:
    harness.connector.repeat = Repeat.BY_PERSON
    harness.connector.script = deque([Play.LATE])
    await harness.receive(harness.due(await harness.channel()))
    await harness.work()
    await harness.settle(clock.advance)
    assert harness.connector.published("find") == []
    assert [event.needs_person for event in await harness.events(DeliveryUnknown)] == [False, True]
    assert len(harness.connector.published()) == 1


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


async def test_when_a_dead_workers_call_ended_is_taken_to_be_as_late_as_it_can(
    new_harness: NewHarness, clock: FakeClock
) -> None:
    dead, living = new_harness(), new_harness()
    dead.connector.script = deque([Play.LATE])
    dead.connector.lateness = deque([LEASE + QUIET - MARGIN])
    await dead.receive(dead.due(await dead.channel()))
    async with dead.database.transaction() as session:
        [held] = await dead.claim_only(session)
    await dead.writer.mark(held)
    lease_end = clock.now() + LEASE
    await dead.publish_only_quietly(held)
    await clock.advance(LEASE + MOMENT)
    await living.rescue()
    [row] = await living.rows()
    assert (row.call_end_time, row.quiet_end_time) == (lease_end, lease_end + QUIET)
    await living.settle(clock.advance)
    await living.work()
    assert len(living.connector.posts) == 1
    assert await living.states() == ["published"]


async def test_a_post_named_by_the_network_that_another_delivery_holds_is_nobodys_success(
    harness: PublisherHarness,
) -> None:
    channel = await harness.channel()
    await harness.receive(harness.due(channel))
    await harness.work()
    harness.connector.answer = Remote("1", "https://fake.example/1")
    await harness.receive(harness.due(channel))
    await harness.work()
    assert await harness.states() == ["published", "unknown"]
    [event] = await harness.events(DeliveryUnknown)
    assert event.needs_person
    assert "another delivery of this account holds" in event.reason
    assert len(await harness.events(PostPublished)) == 1


async def test_of_many_answers_with_one_post_one_delivery_gets_it_and_the_others_are_recorded(
    harness: PublisherHarness,
) -> None:
    channels = [await harness.channel(handle) for handle in ("ada", "ada", "ben")]
    harness.connector.answer = Remote("1", "https://fake.example/1")
    await harness.receive(*(harness.due(channel) for channel in channels for _ in range(5)))
    await harness.work()
    states = await harness.states()
    assert states.count("published") == 2, "one for each account"
    assert states.count("unknown") == 13
    assert len(await harness.events(DeliveryUnknown)) == 13
    held = await harness.rows("remote", "account")
    assert [row.account.rpartition("#")[2] for row in held] == ["ada", "ben"]


async def test_one_account_in_two_workspaces_is_one_account(harness: PublisherHarness) -> None:
    other = replace(harness, workspace_id=new_id())
    await harness.receive(harness.due(await harness.channel()))
    await harness.work()
    harness.connector.answer = Remote("1", "https://fake.example/1")
    await other.receive(other.due(await other.channel()))
    await other.work()
    assert await harness.states() == ["published", "unknown"]


async def test_each_part_of_a_thread_holds_its_own_post(harness: PublisherHarness) -> None:
    await harness.receive(harness.due(await harness.channel(), texts=("one", "two", "three")))
    await harness.work()
    held = await harness.rows("remote", "segment")
    assert [(row.remote_id, row.segment) for row in held] == [("1", 0), ("2", 1), ("3", 2)]


async def test_the_open_deliveries_of_a_channel_share_a_look(harness: PublisherHarness, clock: FakeClock) -> None:
    ada, ben = await harness.channel("ada"), await harness.channel("ben")
    harness.connector.script = deque([Play.LOST_AFTER] * 6)
    await harness.receive(*(harness.due(channel) for channel in (ada, ben) for _ in range(3)))
    await harness.work()
    # After so many calls without an answer, one channel is looked at first, to see whether the host answers again.
    await clock.advance(FIRST_PAUSE)
    await harness.reconciler.find_unknown()
    assert len(harness.connector.looks) == 3
    await harness.reconciler.find_unknown()
    assert len(harness.connector.looks) == 6
    assert len(set(map(id, harness.connector.looks))) == 2


async def test_a_look_that_is_told_to_wait_holds_back_every_look_and_call_of_the_channel(
    harness: PublisherHarness, clock: FakeClock
) -> None:
    channel = await harness.channel()
    harness.connector.script = deque([Play.LOST_BEFORE, Play.LOST_BEFORE])
    await harness.receive(harness.due(channel))
    await harness.work()
    await clock.advance(timedelta(seconds=1))
    await harness.receive(harness.due(channel))
    await harness.work()
    wait = timedelta(minutes=5)
    harness.connector.finds = deque([Refused(FailureKind.RATE_LIMITED, "slow down", retry_after=wait)])
    await clock.advance(timedelta(seconds=1))
    assert await harness.reconciler.find_unknown() == 1
    until = clock.now() + wait
    assert [row.next_action_time for row in await harness.rows()] == [until, until]
    [row] = await harness.rows("channel")
    assert row.block_time == until


async def test_a_token_that_is_gone_is_noticed_while_looking(harness: PublisherHarness, clock: FakeClock) -> None:
    harness.connector.script = deque([Play.LOST_BEFORE])
    harness.connector.finds = deque([Refused(FailureKind.AUTH_EXPIRED, "token revoked")])
    await harness.receive(harness.due(await harness.channel()))
    await harness.work()
    await clock.advance(MOMENT)
    await harness.reconciler.find_unknown()
    [event] = await harness.events(ChannelNeedsAttention)
    assert event.reason == "token revoked"
    assert await harness.states() == ["unknown"]


async def test_another_revision_of_a_post_that_is_out_or_on_its_way_does_not_go_out(
    harness: PublisherHarness, clock: FakeClock
) -> None:
    channel, post_id = await harness.channel(), new_id()
    harness.connector.script = deque([Play.LATE])
    await harness.receive(harness.due(channel, post_id=post_id))
    await harness.work()
    await harness.receive(harness.due(channel, post_id=post_id, revision=2))
    await harness.settle(clock.advance)
    await harness.receive(harness.due(channel, post_id=post_id, revision=3))
    await harness.work()
    assert await harness.states() == ["published", "failed", "failed"]
    assert {event.kind for event in await harness.events(DeliveryFailed)} == {FAILURE_KIND_DUPLICATE_CONTENT}
    assert len(harness.connector.posts) == 1


async def test_another_revision_of_a_post_that_failed_goes_out(harness: PublisherHarness) -> None:
    channel, post_id = await harness.channel(), new_id()
    harness.connector.script = deque([Play.REFUSE])
    await harness.receive(harness.due(channel, post_id=post_id))
    await harness.work()
    await harness.receive(harness.due(channel, post_id=post_id, revision=2))
    await harness.work()
    assert await harness.states() == ["failed", "published"]


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
