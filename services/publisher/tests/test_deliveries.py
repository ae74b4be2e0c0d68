"""The delivery protocol: one attempt, its outcomes, and their consequences."""

from __future__ import annotations

from collections import deque
from datetime import timedelta

import pytest
from regie.publisher.events.v1 import publisher_events_pb2 as pb
from regie.publisher.events.v1.publisher_events_pb2 import (
    ChannelNeedsAttention,
    DeliveryFailed,
    DeliveryMissed,
    DeliveryProcessing,
    DeliveryUnknown,
    PostPublished,
)
from regie_chassis.boundary.ids import new_id
from regie_local.testing.clock import FakeClock
from regie_networks.errors import FailureKind, Inconclusive, NotSent, Refused
from regie_publisher.channels.connecting import disconnect_channel
from regie_publisher.deliveries.lookup_decisions import LOOKUP_PAUSES
from regie_publisher.testing.harness import NewHarness, PublisherHarness
from regie_publisher.testing.network import Play

LATER = timedelta(minutes=2)


async def test_a_due_post_goes_out_once_and_says_so(harness: PublisherHarness) -> None:
    await harness.receive(harness.due(await harness.channel()))
    await harness.work()
    assert [post.text for post in harness.connector.posts] == ["hello"]
    assert await harness.changes() == [
        ("pending", "PostDue"),
        ("claimed", "worker"),
        ("publishing", "worker"),
        ("published", "worker"),
    ]
    [event] = await harness.events(PostPublished)
    assert (event.remote_id, event.attempt, event.network) == ("1", 1, "fake")


async def test_the_same_event_received_ten_times_is_one_delivery(harness: PublisherHarness) -> None:
    event = harness.due(await harness.channel())
    for _ in range(5):
        await harness.receive(event, event)
    await harness.work()
    assert len(harness.connector.posts) == 1


async def test_nothing_is_sent_to_another_workspaces_channel(harness: PublisherHarness) -> None:
    await harness.receive(harness.due(await harness.channel(), workspace_id=new_id()))
    await harness.work()
    assert harness.connector.calls == []
    [event] = await harness.events(DeliveryFailed)
    assert (event.kind, event.source) == (pb.FAILURE_KIND_UNSUPPORTED, pb.FAILURE_SOURCE_USER)
    assert "no such channel" in event.detail


async def test_a_disconnected_channels_deliveries_fail_clearly(harness: PublisherHarness) -> None:
    channel = await harness.channel()
    await harness.receive(harness.due(channel))
    async with harness.database.transaction() as session:
        await disconnect_channel(
            session, workspace_id=harness.workspace_id, channel_id=channel, now=harness.clock.now()
        )
    await harness.receive(harness.due(channel))
    await harness.work()
    assert harness.connector.calls == []
    events = await harness.events(DeliveryFailed)
    assert [(event.kind, "connect it again" in event.detail) for event in events] == [
        (pb.FAILURE_KIND_AUTH_EXPIRED, True)
    ] * 2


async def test_a_post_that_is_too_late_at_its_claim_is_missed_and_not_sent(
    harness: PublisherHarness, clock: FakeClock
) -> None:
    await harness.receive(harness.due(await harness.channel()))
    await clock.advance(timedelta(minutes=11))
    await harness.work()
    assert harness.connector.calls == []
    [event] = await harness.events(DeliveryMissed)
    assert event.reason.endswith("could only be sent 660 s later")
    assert (await harness.rows("delivery_change"))[-1].detail == "it could only be sent 660 s after it was due"


async def test_a_call_that_never_left_is_made_again_with_the_same_key(
    harness: PublisherHarness, clock: FakeClock
) -> None:
    harness.connector.script = deque([Play.NOT_SENT, Play.NOT_SENT])
    await harness.receive(harness.due(await harness.channel()))
    for _ in range(3):
        await harness.work()
        await clock.advance(timedelta(seconds=5))
    keys = harness.connector.published()
    assert len(keys) == 3
    assert len(set(keys)) == 1
    [event] = await harness.events(PostPublished)
    assert event.attempt == 3


async def test_a_network_that_stays_away_fails_the_delivery_before_its_miss_time(
    harness: PublisherHarness, clock: FakeClock
) -> None:
    harness.connector.script = deque([Play.NOT_SENT] * 100)
    await harness.receive(harness.due(await harness.channel()))
    while True:
        await harness.work()
        [row] = await harness.rows()
        if row.next_action_time is None:
            break
        await clock.advance(row.next_action_time - clock.now())
    [event] = await harness.events(DeliveryFailed)
    assert (event.kind, event.network_message) == (pb.FAILURE_KIND_NETWORK_UNREACHABLE, "no connection")


async def test_a_refused_post_fails_in_the_networks_own_words(harness: PublisherHarness) -> None:
    harness.connector.script = deque([Play.REFUSE])
    await harness.receive(harness.due(await harness.channel()))
    await harness.work()
    [event] = await harness.events(DeliveryFailed)
    assert (event.kind, event.source, event.network_message) == (
        pb.FAILURE_KIND_CONTENT_REJECTED,
        pb.FAILURE_SOURCE_USER,
        "not with us",
    )


async def test_content_that_breaks_a_known_limit_is_never_sent(harness: PublisherHarness) -> None:
    harness.connector.review_error = Refused(FailureKind.CONTENT_REJECTED, "too long")
    await harness.receive(harness.due(await harness.channel()))
    await harness.work()
    assert harness.connector.calls == []
    assert await harness.states() == ["failed"]


async def test_a_rate_limit_holds_back_the_whole_channel_and_no_other(
    harness: PublisherHarness, clock: FakeClock
) -> None:
    slow, other = await harness.channel("slow"), await harness.channel("other")
    harness.connector.script = deque([Play.LIMIT])
    await harness.receive(harness.due(slow))
    await harness.work()
    await harness.receive(harness.due(slow), harness.due(other))
    await harness.work()
    assert [post.account for post in harness.connector.posts] == ["other"]
    await clock.advance(timedelta(seconds=31))
    await harness.work()
    assert len(harness.connector.posts) == 3


async def test_a_rate_limit_that_lasts_past_the_miss_time_fails_at_once(harness: PublisherHarness) -> None:
    harness.connector.script, harness.connector.retry_after = deque([Play.LIMIT]), timedelta(hours=1)
    await harness.receive(harness.due(await harness.channel()))
    await harness.work()
    [event] = await harness.events(DeliveryFailed)
    assert event.kind == pb.FAILURE_KIND_RATE_LIMITED


async def test_a_post_behind_a_long_rate_limit_is_missed_at_its_miss_time(
    harness: PublisherHarness, clock: FakeClock
) -> None:
    channel = await harness.channel()
    harness.connector.script, harness.connector.retry_after = deque([Play.LIMIT]), timedelta(hours=1)
    await harness.receive(harness.due(channel))
    await harness.work()
    await harness.receive(harness.due(channel))
    await clock.advance(timedelta(minutes=10))
    await harness.work()
    assert await harness.states() == ["failed", "missed"]


async def test_expired_credentials_fail_the_delivery_and_ask_for_attention_once(harness: PublisherHarness) -> None:
    channel = await harness.channel()
    harness.connector.script = deque([Play.EXPIRE, Play.EXPIRE])
    await harness.receive(harness.due(channel), harness.due(channel))
    await harness.work()
    assert [event.kind for event in await harness.events(DeliveryFailed)] == [pb.FAILURE_KIND_AUTH_EXPIRED] * 2
    [event] = await harness.events(ChannelNeedsAttention)
    assert event.reason == "token revoked"
    await harness.channel()
    await harness.receive(harness.due(channel))
    await harness.work()
    assert len(harness.connector.posts) == 1


@pytest.mark.parametrize("play", [Play.LOST_AFTER, Play.CRASH_AFTER])
async def test_a_post_that_is_out_without_an_answer_is_found_and_not_repeated(
    harness: PublisherHarness, clock: FakeClock, play: Play
) -> None:
    harness.connector.script = deque([play])
    await harness.receive(harness.due(await harness.channel()))
    await harness.work()
    assert await harness.states() == ["unknown"]
    assert await harness.reconciler.find_unknown() == 0, "the first find waits for what is in flight"
    await clock.advance(timedelta(seconds=3))
    assert await harness.reconciler.find_unknown() == 1
    assert await harness.states() == ["published"]
    assert len(harness.connector.published()) == 1
    assert [event.needs_person for event in await harness.events(DeliveryUnknown)] == [False]
    assert len(await harness.events(PostPublished)) == 1


async def test_a_post_that_is_proven_absent_is_sent_again_with_the_same_key(
    harness: PublisherHarness, clock: FakeClock
) -> None:
    harness.connector.script = deque([Play.LOST_BEFORE, Play.CRASH_BEFORE])
    await harness.receive(harness.due(await harness.channel()))
    for _ in range(3):
        await harness.work()
        await harness.settle(clock.advance)
    assert len(set(harness.connector.published())) == 1
    assert len(harness.connector.posts) == 1
    assert await harness.states() == ["published"]


async def test_a_network_that_cannot_tell_is_asked_less_and_less_and_then_a_person(
    harness: PublisherHarness, clock: FakeClock
) -> None:
    harness.connector.script = deque([Play.LOST_BEFORE])
    harness.connector.finds = deque([Inconclusive("the index lags")] * 50)
    await harness.receive(harness.due(await harness.channel()))
    await harness.work()
    for _ in range(2000):
        await clock.advance(timedelta(minutes=5))
        if not await harness.reconciler.find_unknown() and (await harness.rows())[0].needs_person:
            break
    assert len(harness.connector.published("find")) == len(LOOKUP_PAUSES) + 1
    assert [event.needs_person for event in await harness.events(DeliveryUnknown)] == [False, True]
    assert await harness.states() == ["unknown"]
    assert len(harness.connector.published()) == 1


async def test_what_the_network_is_working_on_is_checked_until_it_is_out(
    harness: PublisherHarness, clock: FakeClock
) -> None:
    harness.connector.script = deque([Play.PROCESS])
    await harness.receive(harness.due(await harness.channel()))
    await harness.work()
    assert await harness.states() == ["processing"]
    for _ in range(2):
        await clock.advance(timedelta(seconds=2))
        assert await harness.reconciler.check_processing() == 1
    assert await harness.states() == ["published"]
    assert len(await harness.events(DeliveryProcessing)) == 1
    assert len(harness.connector.published()) == 1


async def test_a_thread_hangs_each_part_on_the_one_before(harness: PublisherHarness) -> None:
    await harness.receive(harness.due(await harness.channel(), texts=("one", "two", "three")))
    await harness.work()
    assert [(post.text, post.reply_to) for post in harness.connector.posts] == [
        ("one", ""),
        ("two", "1"),
        ("three", "2"),
    ]
    [event] = await harness.events(PostPublished)
    assert event.remote_id == "1"
    events = [
        ([part.remote_id for part in one.segments], one.segment_count)
        for one in await harness.events(DeliveryProcessing)
    ]
    assert events == [(["1"], 3), (["1", "2"], 3)], "each part is events when it is out"


@pytest.mark.parametrize(
    "play", [Play.LOST_AFTER, Play.LOST_BEFORE, Play.CRASH_AFTER, Play.NOT_SENT, Play.PROCESS, Play.LIMIT]
)
async def test_a_thread_goes_on_after_whatever_happened_to_its_second_part(
    harness: PublisherHarness, clock: FakeClock, play: Play
) -> None:
    harness.connector.script = deque([Play.OK, play])
    await harness.receive(harness.due(await harness.channel(), texts=("one", "two", "three")))
    for _ in range(6):
        await harness.work()
        await clock.advance(timedelta(seconds=31))
        await harness.settle(clock.advance)
        await harness.reconciler.check_processing()
    assert [(post.text, post.reply_to) for post in harness.connector.posts] == [
        ("one", ""),
        ("two", "1"),
        ("three", "2"),
    ]
    assert await harness.states() == ["published"]
    assert len(await harness.events(PostPublished)) == 1


async def test_prepared_handles_outlive_a_failed_preparation(harness: PublisherHarness, clock: FakeClock) -> None:
    harness.connector.prepares = True
    await harness.receive(harness.due(await harness.channel()))
    harness.connector.prepare_errors = {"second": NotSent("no connection")}
    await harness.work()
    await clock.advance(timedelta(seconds=5))
    await harness.work()
    assert len(harness.connector.published("prepare first")) == 1
    assert len(harness.connector.published("prepare second")) == 2
    assert len(harness.connector.posts) == 1


async def test_a_big_channel_does_not_starve_a_small_one(new_harness: NewHarness) -> None:
    harness = new_harness(in_flight=20, channel_in_flight=5)
    big, small = await harness.channel("big"), await harness.channel("small")
    await harness.receive(*(harness.due(big) for _ in range(100)))
    await harness.receive(harness.due(small))
    await harness.work()
    order = [post.account for post in harness.connector.posts]
    assert len(order) == 101
    assert order.index("small") < 40


async def test_two_workers_at_once_send_each_post_once(new_harness: NewHarness) -> None:
    first, second = new_harness(), new_harness()
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
