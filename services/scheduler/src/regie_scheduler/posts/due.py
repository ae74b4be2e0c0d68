"""Hands posts to the publisher when their time has come.

A claim and all that follows from it is one transaction: the state, the timeline and the event. Rows that another
replica, an edit or a cancellation holds are passed over (`SKIP LOCKED`), so that no post leaves twice and none waits
for its neighbour. Where more is due than one claim takes, workspaces take turns: thousands of posts that one of them
planned for the same minute make nobody else's late (ADR 0021).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

import structlog
from opentelemetry.trace import Span, StatusCode
from regie.ids.v1.prefixes import POST
from regie.scheduler.events.v1.scheduler_events_pb2 import PostDue, PostMissed
from regie_chassis.boundary.ids import show_id
from regie_chassis.boundary.telemetry import trace_id_of, traceparent_of
from regie_chassis.boundary.timestamps import timestamp
from regie_chassis.data.database import Database
from regie_chassis.events.outbox import stage
from regie_chassis.process.clock import Clock
from regie_chassis.process.loops import PeriodicLoop
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from regie_scheduler import telemetry
from regie_scheduler.policies.workspaces import MISSED_AFTER
from regie_scheduler.posts.states import Action, ChangeCause, PostState, after
from regie_scheduler.posts.timeline import Change, write_changes
from regie_scheduler.posts.wakeup import DueWakeup

BATCH = 500
EACH = 20  # posts of each workspace that go before all others of a backlog
LOCKED_PAUSE = timedelta(milliseconds=20)  # before another look at a due row that somebody holds

log = structlog.get_logger()


class DueLoop:
    """Sleeps until the next post is due, claims, and claims again without a pause after a full batch."""

    name = "due loop"

    def __init__(self, database: Database, wakeup: DueWakeup, clock: Clock, *, batch: int = BATCH) -> None:
        self._database = database
        self._wakeup = wakeup
        self._clock = clock
        self._batch = batch
        self._crowded = False
        self._loop = PeriodicLoop(self.name, self._dispatch, idle=self._pause, clock=clock, wake=wakeup)

    async def run(self, stopping: asyncio.Event) -> None:
        """Runs until told to stop; a batch in hand is finished first."""
        await self._loop.run(stopping)

    async def _dispatch(self) -> bool:
        claimed = await dispatch_due(self._database, now=self._clock.now(), limit=self._batch, in_turns=self._crowded)
        self._crowded = claimed == self._batch
        return self._crowded

    async def _pause(self) -> timedelta:
        next_time = await next_due_time(self._database)
        now = self._clock.now()
        wake_time = now + self._wakeup.max_sleep
        if next_time is not None and next_time < wake_time:
            wake_time = next_time if next_time > now else now + LOCKED_PAUSE
        self._wakeup.sleep_until(wake_time)
        return wake_time - now


async def dispatch_due(database: Database, *, now: datetime, limit: int = BATCH, in_turns: bool = False) -> int:
    """Claims up to `limit` posts whose time has come and stages `PostDue` or `PostMissed` for each.

    The earliest go first; `in_turns`, for a backlog, some of each workspace go before them.
    Returns how many were claimed; fewer than `limit` means that nothing else is due and free.
    """
    spans: list[Span] = []
    try:
        async with database.transaction() as session:
            claimed = await _claim(session, now=now, limit=limit, in_turns=in_turns)
            changes: list[Change] = []
            refused: list[UUID] = []
            for index, post in enumerate(claimed):
                if post.state is not PostState.DISPATCHED:
                    changes.append(_miss(session, post, now, _lateness(post, now)))
                    continue
                try:
                    changes.append(_dispatch(session, post, now, spans))
                except Exception as error:  # broad: whatever is wrong with one post, the others leave on time
                    refused.append(post.id)
                    log.error("due.post_cannot_leave", post=show_id(POST, post.id), exc_info=error)
                    missed = claimed[index] = replace(post, state=PostState.MISSED)
                    changes.append(_miss(session, missed, now, f"it cannot be handed on: {type(error).__name__}"))
            if refused:
                await session.execute(_REFUSE, {"ids": refused, "missed": str(PostState.MISSED)})
            await write_changes(session, changes)
    except BaseException as error:
        for span in spans:
            span.set_status(StatusCode.ERROR, type(error).__name__)
        raise
    finally:
        for span in spans:
            span.end()
    _record_telemetry(claimed, now=now)
    return len(claimed)


async def next_due_time(database: Database) -> datetime | None:
    """Returns when the next scheduled post leaves, None when there is none."""
    async with database.reading() as session:
        rows = await session.execute(_NEXT)
        return rows.scalar_one_or_none()


@dataclass(frozen=True, slots=True)
class ClaimedPost:
    """A due post with the state that the claim gave it and its contents in their stored form."""

    id: UUID
    workspace_id: UUID
    state: PostState
    revision: int
    publish_time: datetime
    missed_after: timedelta
    traceparent: str
    contents: Sequence[bytes]


def _dispatch(session: AsyncSession, post: ClaimedPost, now: datetime, spans: list[Span]) -> Change:
    post_id = show_id(POST, post.id)
    span = telemetry.start_due_span(post_id, post.traceparent)
    spans.append(span)
    traceparent = traceparent_of(span)
    message = PostDue(
        post_id=post_id,
        revision=post.revision,
        publish_time=timestamp(post.publish_time),
        miss_time=timestamp(post.publish_time + post.missed_after),
    )
    for content in post.contents:
        message.variants.add().ParseFromString(content)
    stage(
        session,
        message,
        workspace_id=post.workspace_id,
        time=now,
        traceparent=traceparent,
    )
    return Change(post.id, now, post.state, ChangeCause.DUE, trace_id=trace_id_of(traceparent))


def _lateness(post: ClaimedPost, now: datetime) -> str:
    late = _seconds(now - post.publish_time)
    return f"found {late} s late; this workspace sends up to {_seconds(post.missed_after)} s late"


def _miss(session: AsyncSession, post: ClaimedPost, now: datetime, reason: str) -> Change:
    post_id = show_id(POST, post.id)
    message = PostMissed(
        post_id=post_id, reason=reason, publish_time=timestamp(post.publish_time), revision=post.revision
    )
    stage(
        session,
        message,
        workspace_id=post.workspace_id,
        time=now,
        traceparent=post.traceparent,
    )
    return Change(post.id, now, post.state, ChangeCause.DUE, detail=reason, trace_id=trace_id_of(post.traceparent))


def _seconds(span: timedelta) -> str:
    return f"{span.total_seconds():.0f}"


def _record_telemetry(claimed: Sequence[ClaimedPost], *, now: datetime) -> None:
    telemetry.posts_due((post.publish_time for post in claimed if post.state is PostState.DISPATCHED), now=now)
    for post in claimed:
        if post.state is PostState.MISSED:
            telemetry.post_missed(post.id, post.publish_time, now=now)


async def _claim(session: AsyncSession, *, now: datetime, limit: int, in_turns: bool) -> list[ClaimedPost]:
    rows = await session.execute(
        _CLAIM_IN_TURNS if in_turns else _CLAIM,
        {
            "now": now,
            "limit": limit,
            "each": EACH,
            "missed_after": MISSED_AFTER,
            "dispatched": str(after(Action.DISPATCH, PostState.SCHEDULED)),
            "missed": str(after(Action.MISS, PostState.SCHEDULED)),
        },
    )
    return [ClaimedPost(row.id, row.workspace_id, PostState(row.state), *row[3:]) for row in rows]


_IS_SCHEDULED = f"state = '{PostState.SCHEDULED}'"
_EARLIEST = f"""
    WITH due AS MATERIALIZED (
        SELECT id, workspace_id FROM post
        WHERE {_IS_SCHEDULED} AND publish_time <= CAST(:now AS timestamptz)
        ORDER BY publish_time, id
        LIMIT :limit
        FOR UPDATE SKIP LOCKED
"""
# The recursion jumps from workspace to workspace in an index, however many posts each of them has. BETWEEN instead of
# "=": with a constant workspace the planner may take another index for the order. The last comparison of the state is
# in a form that no partial index answers to, so that rows are found by their ids.
_IN_TURNS = f"""
    WITH RECURSIVE space (id) AS (
        (SELECT workspace_id FROM post WHERE {_IS_SCHEDULED} ORDER BY workspace_id LIMIT 1)
        UNION ALL
        SELECT (SELECT workspace_id FROM post WHERE {_IS_SCHEDULED} AND workspace_id > space.id
                ORDER BY workspace_id LIMIT 1)
        FROM space WHERE space.id IS NOT NULL
    ), turn AS (
        SELECT oldest.id, oldest.publish_time, oldest.rank FROM space CROSS JOIN LATERAL (
            SELECT id, publish_time, row_number() OVER (ORDER BY publish_time, id) AS rank FROM (
                SELECT id, publish_time FROM post
                WHERE {_IS_SCHEDULED} AND workspace_id BETWEEN space.id AND space.id
                    AND publish_time <= CAST(:now AS timestamptz)
                ORDER BY workspace_id, publish_time, id LIMIT :each
            ) AS first
        ) AS oldest
        UNION ALL
        SELECT * FROM (
            SELECT id, publish_time, CAST(:each AS int) + 1 FROM post
            WHERE {_IS_SCHEDULED} AND publish_time <= CAST(:now AS timestamptz)
            ORDER BY publish_time, id LIMIT CAST(:limit AS int) * 2
        ) AS earliest
    ), place AS MATERIALIZED (
        SELECT id, publish_time, min(rank) AS rank FROM turn GROUP BY id, publish_time
    ), due AS MATERIALIZED (
        SELECT post.id, post.workspace_id FROM place JOIN post ON post.id = place.id
        WHERE post.state || '' = '{PostState.SCHEDULED}' AND post.publish_time <= CAST(:now AS timestamptz)
        ORDER BY place.rank, place.publish_time, place.id
        LIMIT :limit
        FOR UPDATE OF post SKIP LOCKED
"""
_JUDGED = f"""
    ), judged AS (
        SELECT due.id, coalesce(policy.missed_after, CAST(:missed_after AS interval)) AS missed_after
        FROM due LEFT JOIN workspace_policy AS policy USING (workspace_id)
    ), moved AS (
        UPDATE post
        SET state = CASE WHEN publish_time < CAST(:now AS timestamptz) - judged.missed_after
                         THEN CAST(:missed AS text) ELSE CAST(:dispatched AS text) END,
            update_time = CAST(:now AS timestamptz)
        FROM judged
        WHERE post.id = judged.id AND post.{_IS_SCHEDULED}
        RETURNING post.id, post.workspace_id, post.state, post.revision, post.publish_time, judged.missed_after,
                  post.traceparent
    )
    SELECT moved.*,
           (SELECT array_agg(variant.content ORDER BY variant.position)
            FROM variant WHERE variant.post_id = moved.id)
    FROM moved ORDER BY publish_time, id
"""
_CLAIM = text(_EARLIEST + _JUDGED)
_CLAIM_IN_TURNS = text(_IN_TURNS + _JUDGED)
_REFUSE = text("UPDATE post SET state = :missed WHERE id = ANY(CAST(:ids AS uuid[]))")
_NEXT = text(f"SELECT publish_time FROM post WHERE {_IS_SCHEDULED} ORDER BY publish_time, id LIMIT 1")
