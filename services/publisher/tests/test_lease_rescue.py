"""A worker that dies or wakes late causes no second post."""

from __future__ import annotations

import pytest
from regie.publisher.events.v1.publisher_events_pb2 import (
    PostPublished,
)
from regie_local.testing.clock import FakeClock
from regie_networks.draft import Draft
from regie_publisher.deliveries.delivery import LEASE, MARGIN
from regie_publisher.testing.harness import NewHarness


async def test_a_worker_that_dies_before_its_mark_costs_nothing_but_time(
    new_harness: NewHarness, clock: FakeClock
) -> None:
    first, second = new_harness(), new_harness()
    await first.receive(first.due(await first.channel()))
    # The claim of a worker that ends before it does anything.
    async with first.database.transaction() as session:
        from_claim = await first.claim_only(session)
    assert len(from_claim) == 1
    await second.work()
    assert second.connector.calls == []
    await clock.advance(LEASE)
    assert await second.rescue() == 1
    await second.work()
    assert len(second.connector.posts) == 1
    assert ("pending", "lease_expired") in await second.changes()


@pytest.mark.parametrize("effect", [True, False])
async def test_a_worker_that_dies_after_its_mark_leaves_an_unknown_that_is_found_out(
    new_harness: NewHarness, clock: FakeClock, effect: bool
) -> None:
    first, second = new_harness(), new_harness()
    await first.receive(first.due(await first.channel()))
    async with first.database.transaction() as session:
        [held] = await first.claim_only(session)
    await first.writer.mark(held)
    if effect:
        await first.accounts.open([held.channel_id])
        await first.publish_only(held)
    await clock.advance(LEASE)
    await second.rescue()
    assert await second.states() == ["unknown"]
    await second.work()
    await second.settle(clock.advance)
    await second.work()
    assert len(second.connector.posts) == 1
    assert await second.states() == ["published"]


async def test_a_zombie_writes_nothing_and_sends_nothing(new_harness: NewHarness, clock: FakeClock) -> None:
    zombie, living = new_harness(), new_harness()
    await zombie.receive(zombie.due(await zombie.channel()))

    async def fall_asleep(_draft: Draft, _index: int) -> None:
        zombie.connector.after_publish = None
        await clock.advance(LEASE)
        await living.rescue()

    zombie.connector.after_publish = fall_asleep
    await zombie.work()
    assert await living.states() == ["unknown"], "the zombie's answer is not written"
    assert await living.events(PostPublished) == []
    await clock.advance(MARGIN)
    await living.reconciler.find_unknown()
    assert len(living.connector.posts) == 1
    assert len(await living.events(PostPublished)) == 1


async def test_a_zombie_that_wakes_before_its_call_makes_none(new_harness: NewHarness, clock: FakeClock) -> None:
    zombie, living = new_harness(), new_harness()
    await zombie.receive(zombie.due(await zombie.channel()))
    async with zombie.database.transaction() as session:
        [held] = await zombie.claim_only(session)
    await clock.advance(LEASE)
    await living.rescue()
    await living.work()
    await zombie.accounts.open([held.channel_id])
    await zombie.attempt(held)
    assert len(living.connector.posts) == 1
    assert len(living.connector.published()) == 1
