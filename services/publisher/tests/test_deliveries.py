"""The delivery protocol: one attempt, its outcomes, and what follows them."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import replace
from datetime import timedelta

import pytest
from regie.publisher.events.v1.publisher_events_pb2 import (
    ChannelNeedsAttention,
    DeliveryCancelled,
    DeliveryFailed,
    DeliveryMissed,
    DeliveryProcessing,
    DeliveryUnknown,
    PostPublished,
)
from regie_chassis.ids import new_id
from regie_chassis.outbox import MAX_EVENT
from regie_local.testing.clock import FakeClock
from regie_networks.draft import Draft, Remote
from regie_networks.errors import FailureKind, Inconclusive, NotSent, Refused
from regie_publisher.channels import disconnect_channel
from regie_publisher.deliveries.delivery import LEASE, MARGIN, Cause, Note, Outcome, State
from regie_publisher.deliveries.judging import FIND_AGAIN
from regie_publisher.testing.desk import Desk, NewDesk
from regie_publisher.testing.network import Play

LATER = timedelta(minutes=2)


async def test_a_due_post_goes_out_once_and_says_so(desk: Desk) -> None:
    await desk.receive(desk.due(await desk.channel()))
    await desk.work()
    assert [post.text for post in desk.connector.posts] == ["hello"]
    assert await desk.changes() == [
        ("pending", "PostDue"),
        ("claimed", "worker"),
        ("publishing", "worker"),
        ("published", "worker"),
    ]
    [event] = await desk.said(PostPublished)
    assert (event.remote_id, event.attempt, event.network) == ("1", 1, "fake")


async def test_the_same_event_received_ten_times_is_one_delivery(desk: Desk) -> None:
    event = desk.due(await desk.channel())
    for _ in range(5):
        await desk.receive(event, event)
    await desk.work()
    assert len(desk.connector.posts) == 1


async def test_nothing_is_sent_to_another_workspaces_channel(desk: Desk) -> None:
    await desk.receive(desk.due(await desk.channel(), workspace_id=new_id()))
    await desk.work()
    assert desk.connector.calls == []
    [event] = await desk.said(DeliveryFailed)
    assert (event.kind, event.source) == ("unsupported", "user")
    assert "no such channel" in event.detail


async def test_a_disconnected_channels_deliveries_fail_clearly(desk: Desk) -> None:
    channel = await desk.channel()
    await desk.receive(desk.due(channel))
    async with desk.database.transaction() as session:
        await disconnect_channel(session, workspace_id=desk.workspace_id, channel_id=channel, now=desk.clock.now())
    await desk.receive(desk.due(channel))
    await desk.work()
    assert desk.connector.calls == []
    events = await desk.said(DeliveryFailed)
    assert [(event.kind, "connect it again" in event.detail) for event in events] == [("auth_expired", True)] * 2


async def test_a_cancelled_post_is_never_claimed(desk: Desk) -> None:
    event = desk.due(await desk.channel())
    await desk.receive(event)
    await desk.cancel(event)
    await desk.work()
    assert desk.connector.calls == []
    assert await desk.states() == ["cancelled"]
    assert len(await desk.said(DeliveryCancelled)) == 1


async def test_a_cancellation_that_comes_before_its_post_wins(desk: Desk) -> None:
    event = desk.due(await desk.channel())
    await desk.cancel(event)
    await desk.receive(event)
    await desk.work()
    assert desk.connector.calls == []
    assert len(await desk.said(DeliveryCancelled)) == 1


async def test_a_cancellation_of_an_older_revision_does_not_stop_a_newer_one(desk: Desk) -> None:
    event = desk.due(await desk.channel(), revision=2)
    await desk.cancel(event, revision=1)
    await desk.receive(event)
    await desk.work()
    assert len(desk.connector.posts) == 1


async def test_a_cancellation_while_preparing_stops_the_call(desk: Desk) -> None:
    event = desk.due(await desk.channel())
    await desk.receive(event)
    async with desk.database.transaction() as session:
        [held] = await desk.claim_only(session)
    await desk.cancel(event)
    await desk.attempt(held)
    assert desk.connector.calls == []
    assert await desk.states() == ["cancelled"]


async def test_a_cancellation_while_the_call_is_refused_for_now_prevents_the_next(desk: Desk, clock: FakeClock) -> None:
    event = desk.due(await desk.channel())
    desk.connector.script = deque([Play.LIMIT])

    async def cancel(_draft: Draft, _index: int) -> None:
        await desk.cancel(event)

    desk.connector.before_publish = cancel
    await desk.receive(event)
    await desk.work()
    await clock.advance(LATER)
    await desk.work()
    assert desk.connector.posts == []
    assert await desk.states() == ["cancelled"]


async def test_a_post_that_is_too_late_at_its_claim_is_missed_and_not_sent(desk: Desk, clock: FakeClock) -> None:
    await desk.receive(desk.due(await desk.channel()))
    await clock.advance(timedelta(minutes=11))
    await desk.work()
    assert desk.connector.calls == []
    [event] = await desk.said(DeliveryMissed)
    assert event.reason.endswith("could only be sent 660 s later")
    assert (await desk.rows("delivery_change"))[-1].detail == "it could only be sent 660 s after it was due"


async def test_a_call_that_never_left_is_made_again_with_the_same_key(desk: Desk, clock: FakeClock) -> None:
    desk.connector.script = deque([Play.NOT_SENT, Play.NOT_SENT])
    await desk.receive(desk.due(await desk.channel()))
    for _ in range(3):
        await desk.work()
        await clock.advance(timedelta(seconds=5))
    keys = desk.connector.published()
    assert len(keys) == 3
    assert len(set(keys)) == 1
    [event] = await desk.said(PostPublished)
    assert event.attempt == 3


async def test_a_network_that_stays_away_fails_the_delivery_before_its_miss_time(desk: Desk, clock: FakeClock) -> None:
    desk.connector.script = deque([Play.NOT_SENT] * 100)
    await desk.receive(desk.due(await desk.channel()))
    while True:
        await desk.work()
        [row] = await desk.rows()
        if row.act_time is None:
            break
        await clock.advance(row.act_time - clock.now())
    [event] = await desk.said(DeliveryFailed)
    assert (event.kind, event.network_message) == ("network_unreachable", "no connection")


async def test_a_refused_post_fails_in_the_networks_own_words(desk: Desk) -> None:
    desk.connector.script = deque([Play.REFUSE])
    await desk.receive(desk.due(await desk.channel()))
    await desk.work()
    [event] = await desk.said(DeliveryFailed)
    assert (event.kind, event.source, event.network_message) == ("content_rejected", "user", "not with us")


async def test_content_that_breaks_a_known_limit_is_never_sent(desk: Desk) -> None:
    desk.connector.review_error = Refused(FailureKind.CONTENT_REJECTED, "too long")
    await desk.receive(desk.due(await desk.channel()))
    await desk.work()
    assert desk.connector.calls == []
    assert await desk.states() == ["failed"]


async def test_a_rate_limit_holds_back_the_whole_channel_and_no_other(desk: Desk, clock: FakeClock) -> None:
    slow, other = await desk.channel("slow"), await desk.channel("other")
    desk.connector.script = deque([Play.LIMIT])
    await desk.receive(desk.due(slow))
    await desk.work()
    await desk.receive(desk.due(slow), desk.due(other))
    await desk.work()
    assert [post.account for post in desk.connector.posts] == ["other"]
    await clock.advance(timedelta(seconds=31))
    await desk.work()
    assert len(desk.connector.posts) == 3


async def test_a_rate_limit_that_lasts_past_the_miss_time_fails_at_once(desk: Desk) -> None:
    desk.connector.script, desk.connector.retry_after = deque([Play.LIMIT]), timedelta(hours=1)
    await desk.receive(desk.due(await desk.channel()))
    await desk.work()
    [event] = await desk.said(DeliveryFailed)
    assert event.kind == "rate_limited"


async def test_a_post_behind_a_long_rate_limit_is_missed_at_its_miss_time(desk: Desk, clock: FakeClock) -> None:
    channel = await desk.channel()
    desk.connector.script, desk.connector.retry_after = deque([Play.LIMIT]), timedelta(hours=1)
    await desk.receive(desk.due(channel))
    await desk.work()
    await desk.receive(desk.due(channel))
    await clock.advance(timedelta(minutes=10))
    await desk.work()
    assert await desk.states() == ["failed", "missed"]


async def test_expired_credentials_fail_the_delivery_and_ask_for_attention_once(desk: Desk) -> None:
    channel = await desk.channel()
    desk.connector.script = deque([Play.EXPIRE, Play.EXPIRE])
    await desk.receive(desk.due(channel), desk.due(channel))
    await desk.work()
    assert [event.kind for event in await desk.said(DeliveryFailed)] == ["auth_expired"] * 2
    [event] = await desk.said(ChannelNeedsAttention)
    assert event.reason == "token revoked"
    await desk.channel()
    await desk.receive(desk.due(channel))
    await desk.work()
    assert len(desk.connector.posts) == 1


@pytest.mark.parametrize("play", [Play.LOST_AFTER, Play.CRASH_AFTER])
async def test_a_post_that_is_out_without_an_answer_is_found_and_not_repeated(
    desk: Desk, clock: FakeClock, play: Play
) -> None:
    desk.connector.script = deque([play])
    await desk.receive(desk.due(await desk.channel()))
    await desk.work()
    assert await desk.states() == ["unknown"]
    assert await desk.pursuit.find_unknown() == 0, "the first find waits for what is in flight"
    await clock.advance(timedelta(seconds=3))
    assert await desk.pursuit.find_unknown() == 1
    assert await desk.states() == ["published"]
    assert len(desk.connector.published()) == 1
    assert [event.needs_person for event in await desk.said(DeliveryUnknown)] == [False]
    assert len(await desk.said(PostPublished)) == 1


async def test_a_post_that_is_proven_absent_is_sent_again_with_the_same_key(desk: Desk, clock: FakeClock) -> None:
    desk.connector.script = deque([Play.LOST_BEFORE, Play.CRASH_BEFORE])
    await desk.receive(desk.due(await desk.channel()))
    for _ in range(3):
        await desk.work()
        await desk.settle(clock.advance)
    assert len(set(desk.connector.published())) == 1
    assert len(desk.connector.posts) == 1
    assert await desk.states() == ["published"]


async def test_a_network_that_cannot_tell_is_asked_less_and_less_and_then_a_person(
    desk: Desk, clock: FakeClock
) -> None:
    desk.connector.script = deque([Play.LOST_BEFORE])
    desk.connector.finds = deque([Inconclusive("the index lags")] * 50)
    await desk.receive(desk.due(await desk.channel()))
    await desk.work()
    for _ in range(2000):
        await clock.advance(timedelta(minutes=5))
        if not await desk.pursuit.find_unknown() and (await desk.rows())[0].needs_person:
            break
    assert len(desk.connector.published("find")) == len(FIND_AGAIN) + 1
    assert [event.needs_person for event in await desk.said(DeliveryUnknown)] == [False, True]
    assert await desk.states() == ["unknown"]
    assert len(desk.connector.published()) == 1


async def test_what_the_network_is_working_on_is_checked_until_it_is_out(desk: Desk, clock: FakeClock) -> None:
    desk.connector.script = deque([Play.PROCESS])
    await desk.receive(desk.due(await desk.channel()))
    await desk.work()
    assert await desk.states() == ["processing"]
    for _ in range(2):
        await clock.advance(timedelta(seconds=2))
        assert await desk.pursuit.check_processing() == 1
    assert await desk.states() == ["published"]
    assert len(await desk.said(DeliveryProcessing)) == 1
    assert len(desk.connector.published()) == 1


async def test_a_thread_hangs_each_part_on_the_one_before(desk: Desk) -> None:
    await desk.receive(desk.due(await desk.channel(), texts=("one", "two", "three")))
    await desk.work()
    assert [(post.text, post.reply_to) for post in desk.connector.posts] == [("one", ""), ("two", "1"), ("three", "2")]
    [event] = await desk.said(PostPublished)
    assert event.remote_id == "1"
    told = [
        ([part.remote_id for part in one.segments], one.segment_count) for one in await desk.said(DeliveryProcessing)
    ]
    assert told == [(["1"], 3), (["1", "2"], 3)], "each part is told when it is out"


@pytest.mark.parametrize(
    "play", [Play.LOST_AFTER, Play.LOST_BEFORE, Play.CRASH_AFTER, Play.NOT_SENT, Play.PROCESS, Play.LIMIT]
)
async def test_a_thread_goes_on_after_whatever_happened_to_its_second_part(
    desk: Desk, clock: FakeClock, play: Play
) -> None:
    desk.connector.script = deque([Play.OK, play])
    await desk.receive(desk.due(await desk.channel(), texts=("one", "two", "three")))
    for _ in range(6):
        await desk.work()
        await clock.advance(timedelta(seconds=31))
        await desk.settle(clock.advance)
        await desk.pursuit.check_processing()
    assert [(post.text, post.reply_to) for post in desk.connector.posts] == [("one", ""), ("two", "1"), ("three", "2")]
    assert await desk.states() == ["published"]
    assert len(await desk.said(PostPublished)) == 1


async def test_prepared_handles_outlive_a_failed_preparation(desk: Desk, clock: FakeClock) -> None:
    desk.connector.prepares = True
    await desk.receive(desk.due(await desk.channel()))
    desk.connector.prepare_errors = {"second": NotSent("no connection")}
    await desk.work()
    await clock.advance(timedelta(seconds=5))
    await desk.work()
    assert len(desk.connector.published("prepare first")) == 1
    assert len(desk.connector.published("prepare second")) == 2
    assert len(desk.connector.posts) == 1


async def test_a_worker_that_dies_before_its_mark_costs_nothing_but_time(new_desk: NewDesk, clock: FakeClock) -> None:
    first, second = new_desk(), new_desk()
    await first.receive(first.due(await first.channel()))
    # The claim of a worker that ends before it does anything.
    async with first.database.transaction() as session:
        from_claim = await first.claim_only(session)
    assert len(from_claim) == 1
    await second.work()
    assert second.connector.calls == []
    await clock.advance(LEASE)
    assert await second.sweep() == 1
    await second.work()
    assert len(second.connector.posts) == 1
    assert ("pending", "lease_expired") in await second.changes()


@pytest.mark.parametrize("effect", [True, False])
async def test_a_worker_that_dies_after_its_mark_leaves_an_unknown_that_is_found_out(
    new_desk: NewDesk, clock: FakeClock, effect: bool
) -> None:
    first, second = new_desk(), new_desk()
    await first.receive(first.due(await first.channel()))
    async with first.database.transaction() as session:
        [held] = await first.claim_only(session)
    await first.ledger.mark(held)
    if effect:
        await first.accounts.open([held.channel_id])
        await first.publish_only(held)
    await clock.advance(LEASE)
    await second.sweep()
    assert await second.states() == ["unknown"]
    await second.work()
    await second.settle(clock.advance)
    await second.work()
    assert len(second.connector.posts) == 1
    assert await second.states() == ["published"]


async def test_a_zombie_writes_nothing_and_sends_nothing(new_desk: NewDesk, clock: FakeClock) -> None:
    zombie, living = new_desk(), new_desk()
    await zombie.receive(zombie.due(await zombie.channel()))

    async def fall_asleep(_draft: Draft, _index: int) -> None:
        zombie.connector.after_publish = None
        await clock.advance(LEASE)
        await living.sweep()

    zombie.connector.after_publish = fall_asleep
    await zombie.work()
    assert await living.states() == ["unknown"], "the zombie's answer is not written"
    assert await living.said(PostPublished) == []
    await clock.advance(MARGIN)
    await living.pursuit.find_unknown()
    assert len(living.connector.posts) == 1
    assert len(await living.said(PostPublished)) == 1


async def test_a_zombie_that_wakes_before_its_call_makes_none(new_desk: NewDesk, clock: FakeClock) -> None:
    zombie, living = new_desk(), new_desk()
    await zombie.receive(zombie.due(await zombie.channel()))
    async with zombie.database.transaction() as session:
        [held] = await zombie.claim_only(session)
    await clock.advance(LEASE)
    await living.sweep()
    await living.work()
    await zombie.accounts.open([held.channel_id])
    await zombie.attempt(held)
    assert len(living.connector.posts) == 1
    assert len(living.connector.published()) == 1


async def test_a_big_channel_does_not_starve_a_small_one(new_desk: NewDesk) -> None:
    desk = new_desk(in_flight=20, channel_in_flight=5)
    big, small = await desk.channel("big"), await desk.channel("small")
    await desk.receive(*(desk.due(big) for _ in range(100)))
    await desk.receive(desk.due(small))
    await desk.work()
    order = [post.account for post in desk.connector.posts]
    assert len(order) == 101
    assert order.index("small") < 40


async def test_two_workers_at_once_send_each_post_once(new_desk: NewDesk) -> None:
    first, second = new_desk(), new_desk()
    channels = [await first.channel(f"a{number}") for number in range(4)]
    events = [first.due(channels[number % 4]) for number in range(100)]
    await first.receive(*events)
    both = [first.worker, second.worker]
    while "pending" in await first.states():
        while sum([await worker.claim() for worker in both]):
            pass
        for worker in both:
            await worker.finish()
    keys = first.connector.published()
    assert len(keys) == len(set(keys)) == 100


async def test_words_that_no_database_can_hold_do_no_harm(desk: Desk) -> None:
    desk.connector.review_error = Refused(FailureKind.CONTENT_REJECTED, "no\x00 \ud800 way")
    await desk.receive(desk.due(await desk.channel()))
    await desk.work()
    [event] = await desk.said(DeliveryFailed)
    assert event.network_message == "no way"


async def test_a_step_of_a_thread_that_is_written_twice_counts_once(desk: Desk) -> None:
    await desk.receive(desk.due(await desk.channel(), texts=("one", "two")))
    async with desk.database.transaction() as session:
        [held] = await desk.claim_only(session)
    await desk.ledger.mark(held)
    step = Outcome(State.PUBLISHING, Cause.WORKER, act_time=desk.clock.now() + LEASE, remote=Remote("1", "u"))
    assert await desk.ledger.record(Note(held, step, ""))
    assert not await desk.ledger.record(Note(held, step, "")), "as after a commit whose answer was lost"
    [row] = await desk.rows()
    assert row.remote_ids == ["1"]


async def test_an_outcome_that_cannot_be_written_takes_no_neighbour_along(desk: Desk) -> None:
    await desk.receive(*(desk.due(channel) for channel in [await desk.channel()] for _ in range(3)))
    async with desk.database.transaction() as session:
        first, *others = await desk.claim_only(session)
    good = Outcome(State.FAILED, Cause.WORKER, failure_kind=FailureKind.CONTENT_REJECTED)
    bad = replace(good, finds=2**40)  # more than its column holds
    notes = [Note(first, bad, ""), *(Note(one, good, "") for one in others)]
    results = await asyncio.gather(*(desk.ledger.record(note) for note in notes), return_exceptions=True)
    assert isinstance(results[0], Exception)
    assert results[1:] == [True, True]
    assert sorted(await desk.states()) == ["claimed", "failed", "failed"]


async def test_an_outcome_that_makes_too_large_an_event_is_recorded_and_fails_no_neighbour(desk: Desk) -> None:
    channels = [await desk.channel(f"a{number}") for number in range(2)]
    await desk.receive(*(desk.due(channel) for channel in channels))
    async with desk.database.transaction() as session:
        large, small = await desk.claim_only(session)
    for held in (large, small):
        await desk.ledger.mark(held)
    # Straight to the record, past what caps a network's words where they come in.
    notes = [
        Note(held, Outcome(State.PUBLISHED, Cause.WORKER, remote=Remote("1", url)), "")
        for held, url in ((large, "x" * 1024 * 1024), (small, "https://small"))
    ]
    assert await asyncio.gather(*map(desk.ledger.record, notes)) == [True, True]
    assert [row.state for row in await desk.rows()] == ["published", "published"]
    said = await desk.said(PostPublished)
    assert len(said) == 2
    assert all(event.ByteSize() < MAX_EVENT for event in said)
