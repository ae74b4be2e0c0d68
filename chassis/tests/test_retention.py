"""How long rows are kept, and that they go when their time is over."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

import pytest
from pydantic import SecretStr, ValidationError
from regie_chassis.boundary.ids import new_id
from regie_chassis.data.database import Database
from regie_chassis.events.messaging import stream_spec
from regie_chassis.process.retention import KEYS_LIFE, PURGE_EVERY, RESTORE_WINDOW, messaging_purges, purge_loop
from regie_chassis.process.settings import Lives, ServiceSettings
from regie_local.testing.clock import START, FakeClock
from regie_local.testing.waiting import until
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

DAY = timedelta(days=1)
LIVES = Lives(outbox=timedelta(minutes=15), inbox=14 * DAY, dead=90 * DAY)
ROWS = {
    "inbox": "INSERT INTO inbox (event_id, receive_time) VALUES (:id, :time)",
    "dead_letter": """
        INSERT INTO dead_letter (stream, stream_seq, subject, headers, payload, reason, attempts, dead_time)
        VALUES (CAST(CAST(:id AS uuid) AS text), 1, '', '{}', '', '', 1, :time)
    """,
    "outbox": """
        INSERT INTO outbox (event_id, aggregate_id, workspace_id, type, payload, traceparent, event_time, dead_time)
        VALUES (:id, '', :id, '', '', '', :time, :time)
    """,
}


@pytest.mark.parametrize(
    ("name", "table", "life"),
    [
        ("inbox purge", "inbox", LIVES.inbox),
        ("dead letter purge", "dead_letter", LIVES.dead),
        ("dead outbox purge", "outbox", LIVES.dead),
    ],
)
async def test_a_row_is_purged_once_its_life_is_over(
    database: Database, clock: FakeClock, stopping: asyncio.Event, name: str, table: str, life: timedelta
) -> None:
    await insert(database, table, START - life - DAY, START - life + PURGE_EVERY / 2)
    (loop,) = (one for one in messaging_purges(LIVES, database=database, clock=clock) if one.name == name)
    running = asyncio.create_task(loop.run(stopping))

    async def count() -> int:
        async with database.reading() as session:
            return int((await session.execute(text(f"SELECT count(*) FROM {table}"))).scalar_one())

    async def first_is_gone() -> bool:
        return await count() == 1

    await until(first_is_gone)
    await clock.advance(PURGE_EVERY)

    async def both_are_gone() -> bool:
        await clock.advance(timedelta(seconds=1))  # again and again: the loop may not have begun to wait the first time
        return await count() == 0

    await until(both_are_gone)
    stopping.set()
    await running


async def insert(database: Database, table: str, *times: datetime) -> None:
    async with database.transaction() as session:
        for time in times:
            await session.execute(text(ROWS[table]), {"id": new_id(), "time": time})


async def test_a_purge_that_says_there_is_more_goes_on_at_once(
    database: Database, clock: FakeClock, stopping: asyncio.Event
) -> None:
    left = [True, True, False]

    async def purge(session: AsyncSession, *, now: datetime) -> bool:
        return left.pop(0)

    running = asyncio.create_task(purge_loop("purge", purge, database=database, clock=clock).run(stopping))

    async def done() -> bool:
        return not left

    await until(done)
    stopping.set()
    await running


def test_what_makes_something_once_outlives_what_can_ask_for_it_again() -> None:
    settings = ServiceSettings(database_url=SecretStr("postgresql+asyncpg://u:p@h/d"))
    assert stream_spec("scheduler").max_age < settings.lives.inbox < KEYS_LIFE
    assert RESTORE_WINDOW < KEYS_LIFE


@pytest.mark.parametrize("days", [stream_spec("scheduler").max_age.days, KEYS_LIFE.days])
def test_an_inbox_that_forgets_too_early_or_too_late_is_refused(days: int) -> None:
    with pytest.raises(ValidationError):
        ServiceSettings(database_url=SecretStr("postgresql+asyncpg://u:p@h/d"), inbox_life_days=days)
