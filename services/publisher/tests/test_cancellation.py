"""A cancelled post is not sent, whenever the cancellation comes."""

from __future__ import annotations

from collections import deque
from datetime import timedelta

from regie.publisher.events.v1.publisher_events_pb2 import (
    DeliveryCancelled,
)
from regie_local.testing.clock import FakeClock
from regie_networks.draft import Draft
from regie_publisher.testing.harness import PublisherHarness
from regie_publisher.testing.network import Play

LATER = timedelta(minutes=2)


async def test_a_cancelled_post_is_never_claimed(harness: PublisherHarness) -> None:
    event = harness.due(await harness.channel())
    await harness.receive(event)
    await harness.cancel(event)
    await harness.work()
    assert harness.connector.calls == []
    assert await harness.states() == ["cancelled"]
    assert len(await harness.events(DeliveryCancelled)) == 1


async def test_a_cancellation_that_comes_before_its_post_wins(harness: PublisherHarness) -> None:
    event = harness.due(await harness.channel())
    await harness.cancel(event)
    await harness.receive(event)
    await harness.work()
    assert harness.connector.calls == []
    assert len(await harness.events(DeliveryCancelled)) == 1


async def test_a_cancellation_of_an_older_revision_does_not_stop_a_newer_one(harness: PublisherHarness) -> None:
    event = harness.due(await harness.channel(), revision=2)
    await harness.cancel(event, revision=1)
    await harness.receive(event)
    await harness.work()
    assert len(harness.connector.posts) == 1


async def test_a_cancellation_while_preparing_stops_the_call(harness: PublisherHarness) -> None:
    event = harness.due(await harness.channel())
    await harness.receive(event)
    async with harness.database.transaction() as session:
        [held] = await harness.claim_only(session)
    await harness.cancel(event)
    await harness.attempt(held)
    assert harness.connector.calls == []
    assert await harness.states() == ["cancelled"]


async def test_a_cancellation_while_the_call_is_refused_for_now_prevents_the_next(
    harness: PublisherHarness, clock: FakeClock
) -> None:
    event = harness.due(await harness.channel())
    harness.connector.script = deque([Play.LIMIT])

    async def cancel(_draft: Draft, _index: int) -> None:
        await harness.cancel(event)

    harness.connector.before_publish = cancel
    await harness.receive(event)
    await harness.work()
    await clock.advance(LATER)
    await harness.work()
    assert harness.connector.posts == []
    assert await harness.states() == ["cancelled"]
