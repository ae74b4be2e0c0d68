"""The loop around the attempts: it wakes, it drains, it gives back."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from regie_chassis.process.clock import SystemClock
from regie_chassis.process.loops import PeriodicLoop
from regie_local.testing.clock import FakeClock
from regie_local.testing.waiting import until
from regie_networks.draft import Draft
from regie_publisher.deliveries.claims import release
from regie_publisher.deliveries.delivery import Cause
from regie_publisher.testing.harness import NewHarness, PublisherHarness
from sqlalchemy import text


async def test_a_due_post_wakes_the_worker_without_waiting_for_its_poll(
    harness: PublisherHarness, stopping: asyncio.Event
) -> None:
    # The clock stands still: only the wake can make the loop look again.
    channel = await harness.channel()
    running = asyncio.create_task(harness.worker.run(stopping))
    await asyncio.sleep(0)
    await harness.receive(harness.due(channel))

    async def published() -> bool:
        return await harness.states() == ["published"]

    await until(published)
    stopping.set()
    await running


async def test_stopping_finishes_what_is_in_flight_and_claims_nothing_more(
    new_harness: NewHarness, stopping: asyncio.Event
) -> None:
    harness = new_harness(own_clock=SystemClock(), in_flight=1)
    channel = await harness.channel()
    at_the_network, answer = asyncio.Event(), asyncio.Event()

    async def hold(_draft: Draft, _index: int) -> None:
        at_the_network.set()
        await answer.wait()

    harness.connector.before_publish = hold
    await harness.receive(harness.due(channel), harness.due(channel))
    running = asyncio.create_task(harness.worker.run(stopping))
    await at_the_network.wait()
    stopping.set()
    answer.set()
    await running
    assert sorted(await harness.states()) == ["pending", "published"]


async def test_an_attempt_that_is_aborted_at_the_network_becomes_unknown_and_never_pending(
    new_harness: NewHarness, stopping: asyncio.Event
) -> None:
    harness = new_harness(own_clock=SystemClock())
    channel = await harness.channel()
    at_the_network = asyncio.Event()

    async def hang(_draft: Draft, _index: int) -> None:
        at_the_network.set()
        await asyncio.Event().wait()

    harness.connector.before_publish = hang
    await harness.receive(harness.due(channel))
    running = asyncio.create_task(harness.worker.run(stopping))
    await at_the_network.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await harness.worker.finish()
    assert await harness.states() == ["publishing"]


async def test_a_claim_that_is_given_back_can_be_claimed_at_once(harness: PublisherHarness) -> None:
    await harness.receive(harness.due(await harness.channel()))
    async with harness.database.transaction() as session:
        held = await harness.claim_only(session)
    async with harness.database.transaction() as session:
        await release(session, held, cause=Cause.WORKER, now=harness.clock.now())
    await harness.work()
    assert len(harness.connector.posts) == 1


async def lose_updates(harness: PublisherHarness, state: str) -> None:
    """Makes the next two updates of deliveries fail as if they had lost against another transaction."""
    async with harness.database.transaction() as session:
        await session.execute(text("CREATE SEQUENCE lost"))  # counts on, also where the transaction is rolled back
        await session.execute(
            text(
                "CREATE FUNCTION lose() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
                f" IF nextval('lost') <= 2 THEN RAISE SQLSTATE '{state}'; END IF; RETURN NULL; END $$"
            )
        )
        await session.execute(text("CREATE TRIGGER lose BEFORE UPDATE ON delivery EXECUTE FUNCTION lose()"))


@pytest.mark.parametrize("state", ["40P01", "40001", "55P03"])
async def test_a_claim_that_loses_against_another_transaction_is_made_again(
    harness: PublisherHarness, clock: FakeClock, stopping: asyncio.Event, state: str
) -> None:
    await harness.receive(harness.due(await harness.channel()))
    await lose_updates(harness, state)
    running = asyncio.create_task(harness.worker.run(stopping))

    async def published() -> bool:
        assert not running.done()
        await clock.advance(timedelta(seconds=1))
        return await harness.states() == ["published"]

    await until(published)
    stopping.set()
    await running


async def test_a_poll_that_loses_against_another_transaction_is_made_again(
    harness: PublisherHarness, clock: FakeClock, stopping: asyncio.Event
) -> None:
    await harness.receive(harness.due(await harness.channel()))
    async with harness.database.transaction() as session:
        await harness.claim_only(session)
    await clock.advance(timedelta(minutes=1))
    await lose_updates(harness, "40P01")
    running = asyncio.create_task(
        PeriodicLoop("leases", harness.rescue, idle=timedelta(seconds=1), clock=clock).run(stopping)
    )

    async def swept() -> bool:
        assert not running.done()
        await clock.advance(timedelta(seconds=1))
        return await harness.states() == ["pending"]

    await until(swept)
    stopping.set()
    await running
