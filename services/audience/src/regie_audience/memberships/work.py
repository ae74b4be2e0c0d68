"""The long work of segments, done in chunks: filling a new one, and removing the members of a deleted one.

A row of `segment_work` stands for each. A chunk is one short transaction that holds the row, so that replicas share
the work, and a process that dies leaves it to the others (ADR 0024).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import structlog
from regie.audience.events.v1.audience_events_pb2 import SegmentFilled
from regie.ids.v1.prefixes import SEGMENT
from regie_chassis.boundary.ids import show_id
from regie_chassis.data.database import Database, is_transient
from regie_chassis.events.outbox import stage
from regie_chassis.process.clock import Clock
from regie_chassis.process.loops import PeriodicLoop, Wakeup
from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from regie_audience import telemetry
from regie_audience.memberships.changes import changes_under_way
from regie_audience.memberships.states import SegmentState
from regie_audience.rules.model import parse_rule
from regie_audience.rules.sql import compile_sql

CHUNK = 2_000  # profiles or memberships a transaction
MIN_CHUNK = 50  # of a filling whose larger chunks took too long
CHUNK_TIMEOUT = "5s"  # a statement of a chunk; it holds profiles meanwhile
LOOK_EVERY = timedelta(seconds=1)
MIN_PAUSE = timedelta(milliseconds=10)
CHANGES_PAUSE = timedelta(milliseconds=50)  # until changes that do not know the segment are looked at again
MAX_PAUSE = timedelta(minutes=5)  # after failures
REMEMBERED_WORKSPACES = 1_000

FIRST, LAST = UUID(int=0), UUID(int=2**128 - 1)

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Work:
    """One segment's work, its row held."""

    segment_id: UUID
    workspace_id: UUID
    reached: UUID
    waits_for: Sequence[str] | None
    failures: int


class SegmentWork:
    """The loop of the work. Any number of replicas may run."""

    name = "segment work"

    def __init__(self, database: Database, clock: Clock, *, chunk: int = CHUNK) -> None:
        self.wake = Wakeup()
        """Set when there is something new to do."""
        self._database = database
        self._clock = clock
        self._chunk = chunk
        self._served: dict[UUID, None] = {}
        self._loop = PeriodicLoop(self.name, self.step, idle=self._pause, clock=clock, wake=self.wake)

    async def run(self, stopping: asyncio.Event) -> None:
        """Works until told to stop; what is left by then waits in its table. Waits outages out."""
        await self._loop.run(stopping)

    async def step(self) -> bool:
        """Does one chunk of the work of the workspace that has waited longest. Returns False when there is none."""
        work: Work | None = None
        try:
            async with self._database.transaction() as session:
                work = await _claim(session, list(self._served), now=self._clock.now())
                if work is None:
                    return False
                await self._do(session, work)
        except Exception as error:  # broad: whatever one segment's chunk raises, the others' work goes on
            if work is None or is_transient(error):
                raise
            await self._put_off(work, error)
        self._serve(work.workspace_id)
        return True

    async def _do(self, session: AsyncSession, work: Work) -> None:
        await session.execute(_SET_TIMEOUT)
        now = self._clock.now()
        if not await _changes_know_it(session, work, now=now):
            return
        rows = await session.execute(_SELECT_SEGMENT, {"id": work.segment_id})
        segment = rows.one()
        size = max(MIN_CHUNK, self._chunk >> work.failures) if work.failures else self._chunk
        if segment.state == SegmentState.DELETING:
            await _remove_chunk(session, work, size=size)
        else:
            await _fill_chunk(session, work, segment, size=size, now=now)

    async def _put_off(self, work: Work, error: Exception) -> None:
        log.error("segment_work.put_off", segment_id=str(work.segment_id), failures=work.failures + 1, exc_info=error)
        pause = min(LOOK_EVERY * 2 ** min(work.failures, 16), MAX_PAUSE)
        async with self._database.transaction() as session:
            await session.execute(_PUT_OFF, {"id": work.segment_id, "next_time": self._clock.now() + pause})

    async def _pause(self) -> timedelta:
        async with self._database.reading() as session:
            next_time: datetime | None = (await session.execute(_SELECT_NEXT_TIME)).scalar_one()
        if next_time is None:
            return LOOK_EVERY
        return min(max(next_time - self._clock.now(), MIN_PAUSE), LOOK_EVERY)

    def _serve(self, workspace_id: UUID) -> None:
        self._served.pop(workspace_id, None)
        self._served[workspace_id] = None
        if len(self._served) > REMEMBERED_WORKSPACES:
            self._served.pop(next(iter(self._served)))


async def add_work(session: AsyncSession, *, segment_id: UUID, workspace_id: UUID, now: datetime) -> None:
    """Puts a segment's work down, from its beginning. Waits for a chunk of the segment's that is at work."""
    await session.execute(
        _ADD_WORK, {"segment_id": segment_id, "workspace_id": workspace_id, "first": FIRST, "now": now}
    )


async def _claim(session: AsyncSession, served: Sequence[UUID], *, now: datetime) -> Work | None:
    rows = await session.execute(_CLAIM, {"now": now, "served": list(served)})
    row = rows.one_or_none()
    return Work(*row) if row else None


async def _changes_know_it(session: AsyncSession, work: Work, *, now: datetime) -> bool:
    """True once every change of profiles that is under way has read the segment in its present state.

    Changes that begin later see it. Those that were under way when this was first asked may not, and are waited for
    without holding any other up, as CREATE INDEX CONCURRENTLY does.
    """
    if work.waits_for == []:
        return True
    under_way = await changes_under_way(session, work.workspace_id)
    left = sorted(under_way if work.waits_for is None else under_way & set(work.waits_for))
    await session.execute(
        _WAIT_FOR, {"id": work.segment_id, "left": left, "next_time": now + CHANGES_PAUSE if left else now}
    )
    return not left


async def _fill_chunk(session: AsyncSession, work: Work, segment: Row[Any], *, size: int, now: datetime) -> None:
    upto = await _end_of_chunk(session, work, size)
    condition, values = compile_sql(parse_rule(json.loads(segment.rule)))
    rows = await session.execute(
        text(_FILL.format(condition=condition)),
        {
            "segment_id": work.segment_id,
            "workspace_id": work.workspace_id,
            "reached": work.reached,
            "upto": upto,
            "now": now,
            **values,
        },
    )
    entered = rows.scalar_one()
    done = upto == LAST
    counted = await session.execute(
        _ADD_ENTERED,
        {
            "id": work.segment_id,
            "entered": entered,
            "state": str(SegmentState.ACTIVE if done else SegmentState.FILLING),
        },
    )
    telemetry.memberships_changed(entered=entered, left=0)
    if not done:
        await _reach(session, work, upto)
        return
    member_count = counted.scalar_one()
    segment_id = show_id(SEGMENT, work.segment_id)
    stage(
        session,
        SegmentFilled(segment_id=segment_id, member_count=member_count),
        workspace_id=work.workspace_id,
        time=now,
        traceparent=segment.traceparent,
    )
    await _finish(session, work)
    telemetry.segment_filled(work.segment_id, member_count)


async def _end_of_chunk(session: AsyncSession, work: Work, size: int) -> UUID:
    rows = await session.execute(
        _FIND_END, {"workspace_id": work.workspace_id, "reached": work.reached, "skipped": size - 1}
    )
    last_id: UUID | None = rows.scalar_one_or_none()
    return LAST if last_id is None else last_id


async def _remove_chunk(session: AsyncSession, work: Work, *, size: int) -> None:
    rows = await session.execute(
        _REMOVE_MEMBERS, {"segment_id": work.segment_id, "reached": work.reached, "size": size}
    )
    removed = list(rows.scalars())
    if len(removed) == size:
        await _reach(session, work, max(removed))
        return
    await _finish(session, work)
    await session.execute(_DELETE_SEGMENT, {"id": work.segment_id})


async def _reach(session: AsyncSession, work: Work, reached: UUID) -> None:
    await session.execute(_REACH, {"id": work.segment_id, "reached": reached})


async def _finish(session: AsyncSession, work: Work) -> None:
    await session.execute(_FINISH, {"id": work.segment_id})


_SET_TIMEOUT = text(f"SET LOCAL statement_timeout = '{CHUNK_TIMEOUT}'")

_SELECT_SEGMENT = text("SELECT state, CAST(rule AS text) AS rule, traceparent FROM segment WHERE id = :id")

_PUT_OFF = text("UPDATE segment_work SET failures = failures + 1, next_time = :next_time WHERE segment_id = :id")

_SELECT_NEXT_TIME = text("SELECT min(next_time) FROM segment_work")

_ADD_WORK = text(
    """
    INSERT INTO segment_work (segment_id, workspace_id, reached, failures, next_time)
    VALUES (:segment_id, :workspace_id, :first, 0, :now)
    ON CONFLICT (segment_id) DO UPDATE SET reached = :first, waits_for = NULL, failures = 0, next_time = :now
    """
)

_CLAIM = text(
    """
    SELECT segment_id, workspace_id, reached, waits_for, failures FROM segment_work
    WHERE next_time <= :now
    ORDER BY array_position(CAST(:served AS uuid[]), workspace_id) NULLS FIRST, segment_id
    LIMIT 1 FOR UPDATE SKIP LOCKED
    """
)

_WAIT_FOR = text("UPDATE segment_work SET waits_for = :left, next_time = :next_time WHERE segment_id = :id")

# FOR SHARE, in the order in which changes take their locks: a profile that is being changed is waited for and judged
# anew as it became, and who is judged here does not change before the membership is durable.
_FILL = """
    WITH matching AS MATERIALIZED (
        SELECT id FROM profile
        WHERE workspace_id = :workspace_id AND id > :reached AND id <= :upto AND {condition}
        ORDER BY external_id FOR SHARE
    ), entered AS (
        INSERT INTO membership (segment_id, profile_id, enter_time)
        SELECT :segment_id, id, :now FROM matching
        ON CONFLICT (segment_id, profile_id) DO UPDATE SET enter_time = EXCLUDED.enter_time, leave_time = NULL
            WHERE membership.leave_time IS NOT NULL
        RETURNING 1
    )
    SELECT count(*) FROM entered
"""

_ADD_ENTERED = text(
    """
    UPDATE segment SET member_count = member_count + :entered, state = :state WHERE id = :id RETURNING member_count
    """
)

_FIND_END = text(
    """
    SELECT id FROM profile WHERE workspace_id = :workspace_id AND id > :reached ORDER BY id LIMIT 1 OFFSET :skipped
    """
)

_REMOVE_MEMBERS = text(
    """
    DELETE FROM membership WHERE segment_id = :segment_id AND profile_id IN (
        SELECT profile_id FROM membership WHERE segment_id = :segment_id AND profile_id > :reached
        ORDER BY profile_id LIMIT :size
    )
    RETURNING profile_id
    """
)

_DELETE_SEGMENT = text("DELETE FROM segment WHERE id = :id")

_REACH = text("UPDATE segment_work SET reached = :reached, failures = 0 WHERE segment_id = :id")

_FINISH = text("DELETE FROM segment_work WHERE segment_id = :id")
