"""The numbers of published posts."""

from __future__ import annotations

import asyncio
from collections import deque
from datetime import timedelta

import pytest
import structlog
import structlog.testing
from regie.publisher.events.v1.publisher_events_pb2 import (
    ChannelNeedsAttention,
    EngagementObserved,
    PostMetricsObserved,
)
from regie_chassis.boundary.telemetry import trace_id_of
from regie_local.testing.clock import START, FakeClock
from regie_networks.errors import ConnectorError, FailureKind, OutcomeUnknown, Refused
from regie_networks.observation import Engagement, Observation, Unread
from regie_publisher.metric_collection.collector import MAX_YIELD
from regie_publisher.metric_collection.schedule import PLAN, next_collection_time
from regie_publisher.testing.harness import TRACEPARENT, NewHarness, PublisherHarness

SECOND = timedelta(seconds=1)


async def publish(harness: PublisherHarness, posts: int = 1) -> None:
    channel = await harness.channel()
    await harness.receive(*(harness.due(channel) for _ in range(posts)))
    await harness.work()
    ada = Engagement("did:ada", "ada", "like")
    harness.connector.seen = [Observation(post.id, {"likes": 3}, (ada,)) for post in harness.connector.posts]


async def test_numbers_are_read_on_a_plan_that_thins_out(harness: PublisherHarness, clock: FakeClock) -> None:
    await publish(harness)
    assert await harness.collector.collect_due() == 0
    for _ in range(60):
        await clock.advance(SECOND)
        await harness.collector.collect_due()
    events = await harness.events(PostMetricsObserved)
    assert [event.observe_time.seconds - int(START.timestamp()) for event in events] == [2, 10, 30, 60]
    assert dict(events[0].values) == {"likes": 3}
    traces = {trace_id_of(row.traceparent) for row in await harness.rows("scheduled_collection", "delivery_id")}
    assert traces == {trace_id_of(TRACEPARENT)}


async def test_a_person_is_said_once_for_a_post_and_a_kind(harness: PublisherHarness, clock: FakeClock) -> None:
    await publish(harness)
    for _ in range(3):
        await clock.advance(timedelta(minutes=1))
        await harness.collector.collect_due()
    [event] = await harness.events(EngagementObserved)
    assert (event.actor_id, event.kind) == ("did:ada", "like")


async def test_an_account_is_asked_for_25_posts_in_a_call(new_harness: NewHarness, clock: FakeClock) -> None:
    first, second = new_harness(), new_harness()
    await publish(first, posts=60)
    await clock.advance(3 * SECOND)
    while sum(await asyncio.gather(first.collector.collect_due(), second.collector.collect_due())):
        pass
    asked = [len(ids.split(",")) for ids in first.connector.published("observe")]
    assert sum(asked) == 60
    assert max(asked) == 25
    assert len(await first.events(PostMetricsObserved)) == 60


async def test_readings_wait_for_posts_and_are_never_starved(harness: PublisherHarness, clock: FakeClock) -> None:
    await publish(harness)
    harness.worker.slots.crowded = True
    await clock.advance(3 * SECOND)
    assert await harness.collector.collect_due() == 0
    await clock.advance(MAX_YIELD - SECOND)
    assert await harness.collector.collect_due() == 0
    await clock.advance(SECOND)
    assert await harness.collector.collect_due() == 1
    await clock.advance(MAX_YIELD - SECOND)
    assert await harness.collector.collect_due() == 0
    harness.worker.slots.crowded = False
    assert await harness.collector.collect_due() == 1


@pytest.mark.parametrize(
    "error", [OutcomeUnknown("no answer"), Refused(FailureKind.RATE_LIMITED, "slow down", retry_after=30 * SECOND)]
)
async def test_a_failed_reading_is_made_up_for_later(
    harness: PublisherHarness, clock: FakeClock, error: ConnectorError
) -> None:
    await publish(harness)
    harness.connector.observe_errors = deque([error])
    await clock.advance(3 * SECOND)
    await harness.collector.collect_due()
    await clock.advance(29 * SECOND)
    assert await harness.collector.collect_due() == 0
    await clock.advance(SECOND)
    assert await harness.collector.collect_due() == 1
    assert len(await harness.events(PostMetricsObserved)) == 1


async def test_an_expired_token_while_reading_asks_for_attention(harness: PublisherHarness, clock: FakeClock) -> None:
    await publish(harness)
    harness.connector.observe_errors = deque([Refused(FailureKind.AUTH_EXPIRED, "token revoked")])
    await clock.advance(3 * SECOND)
    await harness.collector.collect_due()
    [event] = await harness.events(ChannelNeedsAttention)
    assert event.reason == "token revoked"


async def test_a_post_that_is_gone_is_not_asked_for_any_more(harness: PublisherHarness, clock: FakeClock) -> None:
    await publish(harness)
    harness.connector.seen = []
    for _ in range(10):
        await clock.advance(timedelta(days=1))
        await harness.collector.collect_due()
    assert len(harness.connector.published("observe")) == 3


def test_what_was_slept_through_is_not_read_late() -> None:
    assert next_collection_time(START, START + timedelta(minutes=20)) == START + timedelta(hours=1)
    assert next_collection_time(START, START + PLAN[-1]) is None


class Overflowing(Observation):
    """A reading that its event cannot hold, as one would be that slipped past every bound."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "left_out", 0)


async def test_a_reading_that_cannot_be_recorded_fails_alone_and_is_given_up_in_sight(
    harness: PublisherHarness, clock: FakeClock
) -> None:
    await publish(harness, posts=3)
    first = harness.connector.posts[0].id
    harness.connector.seen[0] = Overflowing(first, {"likes": 2**63})
    await clock.advance(3 * SECOND)
    await harness.collector.collect_due()
    assert len(await harness.events(PostMetricsObserved)) == 2
    assert [row.failures for row in await harness.rows("scheduled_collection", "remote_id")] == [1, 0, 0]
    with structlog.testing.capture_logs() as logs:
        await clock.advance(timedelta(days=31))
        await harness.collector.collect_due()
    assert "observe.given_up" in [record["event"] for record in logs]
    assert [row.next_action_time for row in await harness.rows("scheduled_collection", "remote_id")] == [
        None,
        None,
        None,
    ]


async def test_a_post_that_cannot_be_read_does_not_fail_its_neighbours(
    harness: PublisherHarness, clock: FakeClock
) -> None:
    await publish(harness, posts=2)
    first, second = harness.connector.posts
    harness.connector.seen = [Unread(first.id, OutcomeUnknown("no answer")), Observation(second.id, {"likes": 1})]
    await clock.advance(3 * SECOND)
    await harness.collector.collect_due()
    assert len(await harness.events(PostMetricsObserved)) == 1
    assert [row.failures for row in await harness.rows("scheduled_collection", "remote_id")] == [1, 0]
