"""Open deliveries are looked up together, and a network that asks to wait is heeded."""

from __future__ import annotations

from collections import deque
from datetime import timedelta

from regie.publisher.events.v1.publisher_events_pb2 import (
    ChannelNeedsAttention,
)
from regie_local.testing.clock import FakeClock
from regie_networks.errors import FailureKind, Refused
from regie_publisher.fairness.hosts import FIRST_PAUSE
from regie_publisher.testing.harness import PublisherHarness
from regie_publisher.testing.network import Play

MOMENT = timedelta(seconds=3)


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
