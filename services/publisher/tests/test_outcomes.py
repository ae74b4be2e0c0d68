"""Outcomes are recorded once, and none fails its neighbours."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from regie.publisher.events.v1.publisher_events_pb2 import (
    DeliveryFailed,
    PostPublished,
)
from regie_chassis.events.outbox import MAX_EVENT
from regie_networks.draft import Remote
from regie_networks.errors import FailureKind, Refused
from regie_publisher.deliveries.delivery import LEASE, Cause, Outcome, RecordedOutcome, State
from regie_publisher.testing.harness import PublisherHarness


async def test_words_that_no_database_can_hold_do_no_harm(harness: PublisherHarness) -> None:
    harness.connector.review_error = Refused(FailureKind.CONTENT_REJECTED, "no\x00 \ud800 way")
    await harness.receive(harness.due(await harness.channel()))
    await harness.work()
    [event] = await harness.events(DeliveryFailed)
    assert event.network_message == "no way"


async def test_a_step_of_a_thread_that_is_written_twice_counts_once(harness: PublisherHarness) -> None:
    await harness.receive(harness.due(await harness.channel(), texts=("one", "two")))
    async with harness.database.transaction() as session:
        [held] = await harness.claim_only(session)
    await harness.writer.mark(held)
    step = Outcome(
        State.PUBLISHING, Cause.WORKER, next_action_time=harness.clock.now() + LEASE, remote=Remote("1", "u")
    )
    assert await harness.writer.record(RecordedOutcome(held, step, ""))
    assert not await harness.writer.record(RecordedOutcome(held, step, "")), "as after a commit whose answer was lost"
    [row] = await harness.rows()
    assert row.remote_ids == ["1"]


async def test_an_outcome_that_cannot_be_written_takes_no_neighbour_along(harness: PublisherHarness) -> None:
    await harness.receive(*(harness.due(channel) for channel in [await harness.channel()] for _ in range(3)))
    async with harness.database.transaction() as session:
        first, *others = await harness.claim_only(session)
    good = Outcome(State.FAILED, Cause.WORKER, failure_kind=FailureKind.CONTENT_REJECTED)
    bad = replace(good, lookups=2**40)  # more than its column holds
    notes = [RecordedOutcome(first, bad, ""), *(RecordedOutcome(one, good, "") for one in others)]
    results = await asyncio.gather(*(harness.writer.record(note) for note in notes), return_exceptions=True)
    assert isinstance(results[0], Exception)
    assert results[1:] == [True, True]
    assert sorted(await harness.states()) == ["claimed", "failed", "failed"]


async def test_an_outcome_that_makes_too_large_an_event_is_recorded_and_fails_no_neighbour(
    harness: PublisherHarness,
) -> None:
    channels = [await harness.channel(f"a{number}") for number in range(2)]
    await harness.receive(*(harness.due(channel) for channel in channels))
    async with harness.database.transaction() as session:
        large, small = await harness.claim_only(session)
    for held in (large, small):
        await harness.writer.mark(held)
    # Straight to the record, past what caps a network's words where they come in.
    notes = [
        RecordedOutcome(held, Outcome(State.PUBLISHED, Cause.WORKER, remote=Remote("1", url)), "")
        for held, url in ((large, "x" * 1024 * 1024), (small, "https://small"))
    ]
    assert await asyncio.gather(*map(harness.writer.record, notes)) == [True, True]
    assert [row.state for row in await harness.rows()] == ["published", "published"]
    said = await harness.events(PostPublished)
    assert len(said) == 2
    assert all(event.ByteSize() < MAX_EVENT for event in said)
