"""Calls with a lost response that land later: no state is reported too early, and nothing is sent twice."""

from __future__ import annotations

from collections import deque
from datetime import timedelta

import pytest
from regie.ids.v1.prefixes import POST
from regie.publisher.events.v1.publisher_events_pb2 import (
    DeliveryCancelled,
    DeliveryFailed,
    DeliveryMissed,
    DeliveryUnknown,
)
from regie_chassis.boundary.ids import parse_id
from regie_local.testing.clock import FakeClock
from regie_networks.absence import QUIET, Repeat
from regie_networks.errors import Inconclusive
from regie_publisher.deliveries.delivery import LEASE, MARGIN
from regie_publisher.deliveries.queries import list_deliveries
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
    harness.connector.finds = deque([Inconclusive("another delivery has the same content")] * 50)
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
