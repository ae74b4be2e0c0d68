"""Restrictions of a channel by its network: blocks that are cut, shown and lifted, and flags that a success clears."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from regie.publisher.events.v1.publisher_events_pb2 import (
    ChannelBlocked,
    ChannelNeedsAttention,
    ChannelRecovered,
    PostRemoved,
)
from regie_local.testing.clock import FakeClock
from regie_networks.bounds import MAX_WAIT
from regie_networks.errors import FailureKind, Inconclusive, OutcomeUnknown, Refused
from regie_networks.observation import Observation
from regie_publisher.channels.queries import get_channel
from regie_publisher.channels.restrictions import MAX_FIRST_BLOCK
from regie_publisher.metric_collection.observations import GONE_AFTER, GONE_AGE
from regie_publisher.testing.harness import PublisherHarness
from regie_publisher.testing.network import Play

DAY = timedelta(hours=25)
WHOLE_WEEK = timedelta(days=7)


async def blocked_until(harness: PublisherHarness) -> datetime | None:
    (row,) = await harness.rows("channel")
    until: datetime | None = row.block_time
    return until


async def test_a_block_of_a_day_is_cut_to_an_hour_and_told(harness: PublisherHarness, clock: FakeClock) -> None:
    channel = await harness.channel()
    harness.connector.retry_after = DAY
    harness.connector.script.append(Play.LIMIT)
    await harness.receive(harness.due(channel, miss_after=WHOLE_WEEK))
    await harness.work()
    until = clock.now() + MAX_FIRST_BLOCK
    assert await blocked_until(harness) == until
    (event,) = await harness.events(ChannelBlocked)
    assert event.blocked_until_time.ToDatetime(UTC) == until
    assert event.requested_until_time.ToDatetime(UTC) == clock.now() + MAX_WAIT
    await harness.receive(harness.due(channel, miss_after=WHOLE_WEEK))
    changes = await harness.rows("delivery_change")
    assert "it is tried again at" in changes[-2].detail
    assert "the network asked to wait; the channel is tried again at" in changes[-1].detail
    async with harness.database.reading() as session:
        assert (await get_channel(session, workspace_id=harness.workspace_id, channel_id=channel)).block_time == until


async def test_each_cut_block_doubles_the_next_until_a_call_succeeds(
    harness: PublisherHarness, clock: FakeClock
) -> None:
    channel = await harness.channel()
    harness.connector.retry_after = DAY
    harness.connector.script.extend([Play.LIMIT, Play.LIMIT, Play.LIMIT, Play.OK, Play.LIMIT])
    await harness.receive(harness.due(channel, miss_after=WHOLE_WEEK))
    waits = []
    for _ in range(3):
        await harness.work()
        until = await blocked_until(harness)
        assert until is not None
        waits.append(until - clock.now())
        await clock.advance(waits[-1])
    assert waits == [MAX_FIRST_BLOCK, 2 * MAX_FIRST_BLOCK, 4 * MAX_FIRST_BLOCK]
    await harness.work()
    await harness.receive(harness.due(channel, miss_after=WHOLE_WEEK))
    await harness.work()
    assert await harness.states() == ["published", "pending"]
    assert await blocked_until(harness) == clock.now() + MAX_FIRST_BLOCK


async def test_many_refusals_of_one_moment_are_one_block(harness: PublisherHarness, clock: FakeClock) -> None:
    channel = await harness.channel()
    harness.connector.retry_after = DAY
    harness.connector.script.extend([Play.LIMIT] * 8)
    await harness.receive(*(harness.due(channel, miss_after=WHOLE_WEEK) for _ in range(8)))
    await harness.work()
    assert await blocked_until(harness) == clock.now() + MAX_FIRST_BLOCK
    assert len(await harness.events(ChannelBlocked)) == 1


async def test_a_short_block_is_no_event(harness: PublisherHarness) -> None:
    channel = await harness.channel()
    harness.connector.script.append(Play.LIMIT)
    await harness.receive(harness.due(channel))
    await harness.work()
    assert await harness.events(ChannelBlocked) == []


async def test_connecting_again_lifts_a_block(harness: PublisherHarness) -> None:
    channel = await harness.channel()
    harness.connector.retry_after = DAY
    harness.connector.script.append(Play.LIMIT)
    await harness.receive(harness.due(channel, miss_after=WHOLE_WEEK), harness.due(channel, miss_after=WHOLE_WEEK))
    await harness.work()
    assert await harness.channel() == channel
    assert await blocked_until(harness) is None
    await harness.work()
    assert await harness.states() == ["published", "published"]


async def test_connecting_again_brings_the_next_look_forward(harness: PublisherHarness, clock: FakeClock) -> None:
    channel = await harness.channel()
    harness.connector.script.append(Play.LOST_BEFORE)
    harness.connector.finds += [Inconclusive("the list cannot be read")] * 2
    await harness.receive(harness.due(channel, miss_after=WHOLE_WEEK))
    await harness.work()
    for _ in range(2):
        await clock.advance(timedelta(seconds=15))
        assert await harness.reconciler.find_unknown() == 1
    (row,) = await harness.rows()
    assert row.next_action_time > clock.now()
    await harness.channel()
    (row,) = await harness.rows()
    assert (row.state, row.next_action_time) == ("unknown", clock.now())


async def test_a_look_waits_no_longer_than_the_block_and_connecting_again_ends_both(
    harness: PublisherHarness, clock: FakeClock
) -> None:
    channel = await harness.channel()
    harness.connector.script.append(Play.LOST_BEFORE)
    harness.connector.finds.append(Refused(FailureKind.RATE_LIMITED, "slow down", retry_after=DAY))
    await harness.receive(harness.due(channel, miss_after=WHOLE_WEEK))
    await harness.work()
    await clock.advance(timedelta(seconds=3))
    assert await harness.reconciler.find_unknown() == 1
    (row,) = await harness.rows()
    assert (row.state, row.next_action_time) == ("unknown", clock.now() + MAX_FIRST_BLOCK)
    assert await harness.channel() == channel
    (row,) = await harness.rows()
    assert row.next_action_time == clock.now()


async def test_a_success_clears_the_flag_that_a_failure_set(harness: PublisherHarness) -> None:
    channel = await harness.channel()
    harness.connector.script.append(Play.EXPIRE)
    await harness.receive(harness.due(channel))
    await harness.work()
    (row,) = await harness.rows("channel")
    assert (row.state, row.attention) == ("needs_attention", "token revoked")
    await harness.receive(harness.due(channel), harness.due(channel))
    await harness.work()
    (row,) = await harness.rows("channel")
    assert (row.state, row.attention) == ("active", "")
    assert len(await harness.events(ChannelRecovered)) == 1


@pytest.mark.parametrize("reads_again", [False, True])
async def test_only_the_same_kind_of_call_proves_that_it_works_again(
    harness: PublisherHarness, clock: FakeClock, reads_again: bool
) -> None:
    channel = await harness.channel()
    await harness.receive(harness.due(channel))
    await harness.work()
    harness.connector.observe_errors.append(Refused(FailureKind.AUTH_EXPIRED, "no scope to read"))
    await clock.advance(timedelta(seconds=3))
    await harness.collector.collect_due()
    await harness.receive(harness.due(channel))
    await harness.work()
    if reads_again:
        harness.connector.seen = [Observation(post.id, {"likes": 1}) for post in harness.connector.posts]
        await clock.advance(timedelta(seconds=3))
        await harness.collector.collect_due()
    (row,) = await harness.rows("channel")
    assert row.state == ("active" if reads_again else "needs_attention")
    assert len(await harness.events(ChannelNeedsAttention)) == 1


async def test_a_post_that_the_network_no_longer_has_says_so_once(harness: PublisherHarness, clock: FakeClock) -> None:
    channel = await harness.channel()
    await harness.receive(harness.due(channel))
    await harness.work()
    for _ in range(GONE_AFTER + 1):
        await clock.advance(timedelta(days=1))
        await harness.collector.collect_due()
    (event,) = await harness.events(PostRemoved)
    assert (event.remote_id, event.remote_url) == ("1", "https://fake.example/1")
    assert await harness.states() == ["published"]
    last = (await harness.rows("delivery_change"))[-1]
    assert (last.state, last.cause, last.segments_out) == ("removed", "observe", 1)
    assert "no longer has the post" in last.detail


async def test_a_young_post_and_failed_readings_are_no_proof_that_it_is_gone(
    harness: PublisherHarness, clock: FakeClock
) -> None:
    channel = await harness.channel()
    await harness.receive(harness.due(channel))
    await harness.work()
    for _ in range(6):  # what reads lags behind what writes
        await clock.advance(timedelta(minutes=5))
        await harness.collector.collect_due()
    harness.connector.seen = [Observation("1", {"likes": 1})]
    await clock.advance(GONE_AGE)
    await harness.collector.collect_due()
    harness.connector.seen = []
    harness.connector.observe_errors.extend([OutcomeUnknown("HTTP 502")] * (GONE_AFTER + 1))
    for _ in range(GONE_AFTER + 2):
        await clock.advance(timedelta(days=1))
        await harness.collector.collect_due()
    assert await harness.events(PostRemoved) == []
