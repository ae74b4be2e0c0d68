"""A day's partition is there before its rows are, and goes with them."""

from __future__ import annotations

import asyncio
from datetime import date, timedelta

from regie_chassis.data.database import Database
from regie_chassis.process.loops import PeriodicLoop
from regie_local.testing.clock import FakeClock
from regie_local.testing.waiting import until
from regie_metrics.observations.partitions import LOOK_EVERY, Partitions, ensure
from sqlalchemy import text

RETENTION = timedelta(days=90)


async def _names(database: Database) -> list[str]:
    async with database.reading() as session:
        rows = await session.execute(
            text(
                "SELECT CAST(CAST(inhrelid AS regclass) AS text) FROM pg_inherits"
                " WHERE inhparent = CAST('observation' AS regclass) ORDER BY 1"
            )
        )
        return list(rows.scalars())


async def test_the_days_ahead_have_their_partitions(database: Database, clock: FakeClock) -> None:
    await Partitions(database, clock, retention=RETENTION).look()

    assert await _names(database) == [f"observation_2026030{day}" for day in (2, 3, 4, 5)]


async def test_a_day_past_the_retention_is_dropped_and_the_last_kept_day_is_not(
    database: Database, clock: FakeClock
) -> None:
    edge = clock.now().date() - RETENTION
    async with database.transaction() as session:
        await ensure(session, [edge - timedelta(days=2), edge - timedelta(days=1), edge])

    await Partitions(database, clock, retention=RETENTION).look()

    names = await _names(database)
    assert names[0] == f"observation_{edge:%Y%m%d}"
    assert len(names) == 1 + 4


async def test_many_who_need_the_same_day_at_once_make_it_once(database: Database) -> None:
    async def make(days: list[date]) -> None:
        async with database.transaction() as session:
            await ensure(session, days)

    first, second = date(2026, 5, 1), date(2026, 5, 2)
    await asyncio.gather(*(make([first, second] if n % 2 else [second, first]) for n in range(8)))

    assert await _names(database) == ["observation_20260501", "observation_20260502"]


async def test_the_loop_makes_tomorrow_when_time_goes_on(
    database: Database, clock: FakeClock, stopping: asyncio.Event
) -> None:
    partitions = Partitions(database, clock, retention=RETENTION)
    periodic = PeriodicLoop("partitions", partitions.look, idle=LOOK_EVERY, clock=clock)
    loop = asyncio.create_task(periodic.run(stopping))

    async def is_there(name: str) -> bool:
        return name in await _names(database)

    await until(lambda: is_there("observation_20260305"))
    await clock.advance(timedelta(days=1))

    async def made() -> bool:
        await clock.advance(timedelta(hours=1))  # again and again: the loop may not have begun to wait the first time
        return await is_there("observation_20260306")

    await until(made)
    stopping.set()
    await loop


async def test_a_drop_that_would_make_the_ingest_wait_is_put_off(database: Database, clock: FakeClock) -> None:
    old = clock.now().date() - RETENTION - timedelta(days=1)
    async with database.transaction() as session:
        await ensure(session, [old])
    loop = Partitions(database, clock, retention=RETENTION)

    async with database.transaction() as reader:
        await reader.execute(text("SELECT count(*) FROM observation"))
        await loop.look()
        assert f"observation_{old:%Y%m%d}" in await _names(database)
    await loop.look()

    assert f"observation_{old:%Y%m%d}" not in await _names(database)
