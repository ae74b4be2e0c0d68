"""The loop around the attempts: it wakes, it drains, it gives back."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from regie_chassis.clock import SystemClock
from regie_chassis.loops import PeriodicLoop
from regie_local.testing.clock import FakeClock
from regie_local.testing.waiting import until
from regie_networks.draft import Draft
from regie_publisher.deliveries.claims import release
from regie_publisher.deliveries.delivery import Cause
from regie_publisher.testing.desk import Desk, NewDesk
from sqlalchemy import text


async def test_a_due_post_wakes_the_worker_without_waiting_for_its_poll(desk: Desk, stopping: asyncio.Event) -> None:
    # The clock stands still: only the wake can make the loop look again.
    channel = await desk.channel()
    running = asyncio.create_task(desk.worker.run(stopping))
    await asyncio.sleep(0)
    await desk.receive(desk.due(channel))

    async def published() -> bool:
        return await desk.states() == ["published"]

    await until(published)
    stopping.set()
    await running


async def test_stopping_finishes_what_is_in_flight_and_claims_nothing_more(
    new_desk: NewDesk, stopping: asyncio.Event
) -> None:
    desk = new_desk(own_clock=SystemClock(), in_flight=1)
    channel = await desk.channel()
    at_the_network, answer = asyncio.Event(), asyncio.Event()

    async def hold(_draft: Draft, _index: int) -> None:
        at_the_network.set()
        await answer.wait()

    desk.connector.before_publish = hold
    await desk.receive(desk.due(channel), desk.due(channel))
    running = asyncio.create_task(desk.worker.run(stopping))
    await at_the_network.wait()
    stopping.set()
    answer.set()
    await running
    assert sorted(await desk.states()) == ["pending", "published"]


async def test_an_attempt_that_is_aborted_at_the_network_becomes_unknown_and_never_pending(
    new_desk: NewDesk, stopping: asyncio.Event
) -> None:
    desk = new_desk(own_clock=SystemClock())
    channel = await desk.channel()
    at_the_network = asyncio.Event()

    async def hang(_draft: Draft, _index: int) -> None:
        at_the_network.set()
        await asyncio.Event().wait()

    desk.connector.before_publish = hang
    await desk.receive(desk.due(channel))
    running = asyncio.create_task(desk.worker.run(stopping))
    await at_the_network.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await desk.worker.finish()
    assert await desk.states() == ["publishing"]


async def test_a_claim_that_is_given_back_can_be_claimed_at_once(desk: Desk) -> None:
    await desk.receive(desk.due(await desk.channel()))
    async with desk.database.transaction() as session:
        held = await desk.claim_only(session)
    async with desk.database.transaction() as session:
        await release(session, held, cause=Cause.WORKER, now=desk.clock.now())
    await desk.work()
    assert len(desk.connector.posts) == 1


async def lose_updates(desk: Desk, state: str) -> None:
    """Makes the next two updates of deliveries fail as if they had lost against another transaction."""
    async with desk.database.transaction() as session:
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
    desk: Desk, clock: FakeClock, stopping: asyncio.Event, state: str
) -> None:
    await desk.receive(desk.due(await desk.channel()))
    await lose_updates(desk, state)
    running = asyncio.create_task(desk.worker.run(stopping))

    async def published() -> bool:
        assert not running.done()
        await clock.advance(timedelta(seconds=1))
        return await desk.states() == ["published"]

    await until(published)
    stopping.set()
    await running


async def test_a_poll_that_loses_against_another_transaction_is_made_again(
    desk: Desk, clock: FakeClock, stopping: asyncio.Event
) -> None:
    await desk.receive(desk.due(await desk.channel()))
    async with desk.database.transaction() as session:
        await desk.claim_only(session)
    await clock.advance(timedelta(minutes=1))
    await lose_updates(desk, "40P01")
    running = asyncio.create_task(
        PeriodicLoop("leases", desk.sweep, idle=timedelta(seconds=1), clock=clock).run(stopping)
    )

    async def swept() -> bool:
        assert not running.done()
        await clock.advance(timedelta(seconds=1))
        return await desk.states() == ["pending"]

    await until(swept)
    stopping.set()
    await running
