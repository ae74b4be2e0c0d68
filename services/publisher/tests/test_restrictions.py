"""What networks make of a channel: blocks that are cut, shown and lifted, and flags that a success clears."""

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
from regie_publisher.channels import get_channel
from regie_publisher.observations import GONE_AFTER, GONE_AGE
from regie_publisher.standing import MAX_FIRST_BLOCK
from regie_publisher.testing.desk import Desk
from regie_publisher.testing.network import Play

DAY = timedelta(hours=25)
WHOLE_WEEK = timedelta(days=7)


async def blocked_until(desk: Desk) -> datetime | None:
    (row,) = await desk.rows("channel")
    until: datetime | None = row.block_time
    return until


async def test_a_block_of_a_day_is_cut_to_an_hour_and_told(desk: Desk, clock: FakeClock) -> None:
    channel = await desk.channel()
    desk.connector.retry_after = DAY
    desk.connector.script.append(Play.LIMIT)
    await desk.receive(desk.due(channel, miss_after=WHOLE_WEEK))
    await desk.work()
    until = clock.now() + MAX_FIRST_BLOCK
    assert await blocked_until(desk) == until
    (event,) = await desk.said(ChannelBlocked)
    assert event.blocked_until_time.ToDatetime(UTC) == until
    assert event.requested_until_time.ToDatetime(UTC) == clock.now() + MAX_WAIT
    await desk.receive(desk.due(channel, miss_after=WHOLE_WEEK))
    changes = await desk.rows("delivery_change")
    assert "it is tried again at" in changes[-2].detail
    assert "the network asked to wait; the channel is tried again at" in changes[-1].detail
    async with desk.database.reading() as session:
        assert (await get_channel(session, workspace_id=desk.workspace_id, channel_id=channel)).block_time == until


async def test_each_cut_block_doubles_the_next_until_a_call_succeeds(desk: Desk, clock: FakeClock) -> None:
    channel = await desk.channel()
    desk.connector.retry_after = DAY
    desk.connector.script.extend([Play.LIMIT, Play.LIMIT, Play.LIMIT, Play.OK, Play.LIMIT])
    await desk.receive(desk.due(channel, miss_after=WHOLE_WEEK))
    waits = []
    for _ in range(3):
        await desk.work()
        until = await blocked_until(desk)
        assert until is not None
        waits.append(until - clock.now())
        await clock.advance(waits[-1])
    assert waits == [MAX_FIRST_BLOCK, 2 * MAX_FIRST_BLOCK, 4 * MAX_FIRST_BLOCK]
    await desk.work()
    await desk.receive(desk.due(channel, miss_after=WHOLE_WEEK))
    await desk.work()
    assert await desk.states() == ["published", "pending"]
    assert await blocked_until(desk) == clock.now() + MAX_FIRST_BLOCK


async def test_many_refusals_of_one_moment_are_one_block(desk: Desk, clock: FakeClock) -> None:
    channel = await desk.channel()
    desk.connector.retry_after = DAY
    desk.connector.script.extend([Play.LIMIT] * 8)
    await desk.receive(*(desk.due(channel, miss_after=WHOLE_WEEK) for _ in range(8)))
    await desk.work()
    assert await blocked_until(desk) == clock.now() + MAX_FIRST_BLOCK
    assert len(await desk.said(ChannelBlocked)) == 1


async def test_a_short_block_is_no_event(desk: Desk) -> None:
    channel = await desk.channel()
    desk.connector.script.append(Play.LIMIT)
    await desk.receive(desk.due(channel))
    await desk.work()
    assert await desk.said(ChannelBlocked) == []


async def test_connecting_again_lifts_a_block(desk: Desk) -> None:
    channel = await desk.channel()
    desk.connector.retry_after = DAY
    desk.connector.script.append(Play.LIMIT)
    await desk.receive(desk.due(channel, miss_after=WHOLE_WEEK), desk.due(channel, miss_after=WHOLE_WEEK))
    await desk.work()
    assert await desk.channel() == channel
    assert await blocked_until(desk) is None
    await desk.work()
    assert await desk.states() == ["published", "published"]


async def test_connecting_again_brings_the_next_look_forward(desk: Desk, clock: FakeClock) -> None:
    channel = await desk.channel()
    desk.connector.script.append(Play.LOST_BEFORE)
    desk.connector.finds += [Inconclusive("the list cannot be read")] * 2
    await desk.receive(desk.due(channel, miss_after=WHOLE_WEEK))
    await desk.work()
    for _ in range(2):
        await clock.advance(timedelta(seconds=15))
        assert await desk.pursuit.find_unknown() == 1
    (row,) = await desk.rows()
    assert row.act_time > clock.now()
    await desk.channel()
    (row,) = await desk.rows()
    assert (row.state, row.act_time) == ("unknown", clock.now())


async def test_a_look_waits_no_longer_than_the_block_and_connecting_again_ends_both(
    desk: Desk, clock: FakeClock
) -> None:
    channel = await desk.channel()
    desk.connector.script.append(Play.LOST_BEFORE)
    desk.connector.finds.append(Refused(FailureKind.RATE_LIMITED, "slow down", retry_after=DAY))
    await desk.receive(desk.due(channel, miss_after=WHOLE_WEEK))
    await desk.work()
    await clock.advance(timedelta(seconds=3))
    assert await desk.pursuit.find_unknown() == 1
    (row,) = await desk.rows()
    assert (row.state, row.act_time) == ("unknown", clock.now() + MAX_FIRST_BLOCK)
    assert await desk.channel() == channel
    (row,) = await desk.rows()
    assert row.act_time == clock.now()


async def test_a_success_clears_the_flag_that_a_failure_set(desk: Desk) -> None:
    channel = await desk.channel()
    desk.connector.script.append(Play.EXPIRE)
    await desk.receive(desk.due(channel))
    await desk.work()
    (row,) = await desk.rows("channel")
    assert (row.state, row.attention) == ("needs_attention", "token revoked")
    await desk.receive(desk.due(channel), desk.due(channel))
    await desk.work()
    (row,) = await desk.rows("channel")
    assert (row.state, row.attention) == ("active", "")
    assert len(await desk.said(ChannelRecovered)) == 1


@pytest.mark.parametrize("reads_again", [False, True])
async def test_only_the_same_kind_of_call_proves_that_it_works_again(
    desk: Desk, clock: FakeClock, reads_again: bool
) -> None:
    channel = await desk.channel()
    await desk.receive(desk.due(channel))
    await desk.work()
    desk.connector.observe_errors.append(Refused(FailureKind.AUTH_EXPIRED, "no scope to read"))
    await clock.advance(timedelta(seconds=3))
    await desk.observer.observe_due()
    await desk.receive(desk.due(channel))
    await desk.work()
    if reads_again:
        desk.connector.seen = [Observation(post.id, {"likes": 1}) for post in desk.connector.posts]
        await clock.advance(timedelta(seconds=3))
        await desk.observer.observe_due()
    (row,) = await desk.rows("channel")
    assert row.state == ("active" if reads_again else "needs_attention")
    assert len(await desk.said(ChannelNeedsAttention)) == 1


async def test_a_post_that_the_network_no_longer_has_says_so_once(desk: Desk, clock: FakeClock) -> None:
    channel = await desk.channel()
    await desk.receive(desk.due(channel))
    await desk.work()
    for _ in range(GONE_AFTER + 1):
        await clock.advance(timedelta(days=1))
        await desk.observer.observe_due()
    (event,) = await desk.said(PostRemoved)
    assert (event.remote_id, event.remote_url) == ("1", "https://fake.example/1")
    assert await desk.states() == ["published"]
    last = (await desk.rows("delivery_change"))[-1]
    assert (last.state, last.cause, last.segments_out) == ("removed", "observe", 1)
    assert "no longer has the post" in last.detail


async def test_a_young_post_and_failed_readings_are_no_proof_that_it_is_gone(desk: Desk, clock: FakeClock) -> None:
    channel = await desk.channel()
    await desk.receive(desk.due(channel))
    await desk.work()
    for _ in range(6):  # what reads lags behind what writes
        await clock.advance(timedelta(minutes=5))
        await desk.observer.observe_due()
    desk.connector.seen = [Observation("1", {"likes": 1})]
    await clock.advance(GONE_AGE)
    await desk.observer.observe_due()
    desk.connector.seen = []
    desk.connector.observe_errors.extend([OutcomeUnknown("HTTP 502")] * (GONE_AFTER + 1))
    for _ in range(GONE_AFTER + 2):
        await clock.advance(timedelta(days=1))
        await desk.observer.observe_due()
    assert await desk.said(PostRemoved) == []
