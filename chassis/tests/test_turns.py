from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from regie.scheduler.events.v1.scheduler_events_pb2 import PostCreated
from regie_chassis.boundary.ids import new_id
from regie_chassis.data.database import Database
from regie_chassis.events import outbox
from regie_chassis.events.turns import BATCH, BATCH_BYTES, Turns, oldest_waiting
from regie_local.testing.clock import START
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

LOUD, QUIET = sorted((new_id(), new_id()))
MANY = 100_000


async def fill(database: Database, workspace_id: UUID, count: int) -> None:
    async with database.transaction() as session:
        await session.execute(
            text(
                "INSERT INTO outbox (event_id, aggregate_id, workspace_id, type, payload, traceparent, event_time)"
                " SELECT gen_random_uuid(), 'a' || n, :workspace_id, 'regie.scheduler.events.v1.PostCreated', '', '',"
                " :time FROM generate_series(1, :count) AS n"
            ),
            {"workspace_id": workspace_id, "count": count, "time": START},
        )


async def stage_one(
    database: Database, workspace_id: UUID, *, title: str = "", after: timedelta = timedelta(0)
) -> None:
    async with database.transaction() as session:
        message = PostCreated(post_id="one", title=title)
        outbox.stage(session, message, workspace_id=workspace_id, time=START + after)


async def test_an_event_leaves_with_the_next_batch_however_many_of_another_workspace_wait(database: Database) -> None:
    await fill(database, LOUD, MANY)
    await stage_one(database, QUIET)
    async with database.reading() as session:
        rows = await Turns().next_rows(session)
    assert [row.workspace_id for row in rows].count(QUIET) == 1
    assert len(rows) == BATCH  # the share that the quiet one leaves is used
    loud = [row.id for row in rows if row.workspace_id == LOUD]
    assert loud == sorted(loud)


async def test_the_choice_reads_no_more_of_a_backlog_than_it_takes(database: Database) -> None:
    await fill(database, LOUD, MANY)
    await stage_one(database, QUIET)
    async with database.reading() as session:
        before = await _rows_read(session)
        await Turns().next_rows(session)
        await oldest_waiting(session)
        assert 0 < await _rows_read(session) - before < 4 * BATCH


async def _rows_read(session: AsyncSession) -> int:
    await session.execute(text("SELECT pg_stat_force_next_flush()"))
    rows = await session.execute(
        text(
            "SELECT (SELECT pg_stat_get_xact_tuples_returned(CAST('outbox' AS regclass))"
            " + sum(coalesce(pg_stat_get_tuples_returned(i.indexrelid), 0)) + pg_stat_get_tuples_returned("
            "CAST('outbox' AS regclass)) FROM pg_index AS i WHERE i.indrelid = CAST('outbox' AS regclass)) AS read"
        )
    )
    return int(rows.one().read)


async def test_more_workspaces_than_a_batch_holds_all_get_their_turn(database: Database) -> None:
    workspaces = {new_id() for _ in range(BATCH + 50)}
    for workspace_id in workspaces:
        await fill(database, workspace_id, 2)
    turns, seen = Turns(), set[UUID]()
    for _ in range(2):
        async with database.reading() as session:
            rows = await turns.next_rows(session)
        seen |= {row.workspace_id for row in rows}
        await _forget(database, [row.id for row in rows])
    assert seen == workspaces


async def _forget(database: Database, ids: list[int]) -> None:
    async with database.transaction() as session:
        await session.execute(text("UPDATE outbox SET sent_time = now() WHERE id = ANY(:ids)"), {"ids": ids})


async def test_a_batch_is_bounded_in_bytes_and_never_empty(database: Database) -> None:
    large = "x" * (outbox.MAX_EVENT - 1000)
    for _ in range(25):
        await stage_one(database, LOUD, title=large)
    async with database.reading() as session:
        rows = await Turns().next_rows(session)
    assert 1 <= len(rows) < 25
    assert sum(len(row.payload) for row in rows[:-1]) < BATCH_BYTES


async def test_the_oldest_event_that_waits_is_found_among_all_workspaces(database: Database) -> None:
    async with database.reading() as session:
        assert await oldest_waiting(session) is None
    await stage_one(database, LOUD, after=timedelta(seconds=5))
    await stage_one(database, QUIET, after=timedelta(seconds=2))
    async with database.reading() as session:
        assert await oldest_waiting(session) == START + timedelta(seconds=2)
