"""Cancels the deliveries of cancelled posts, and remembers the cancellation."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from regie.ids.v1.prefixes import POST
from regie.scheduler.events.v1.scheduler_events_pb2 import PostCancelled
from regie_chassis.boundary.ids import parse_id
from regie_chassis.boundary.telemetry import trace_id_of
from regie_chassis.data.bulk import Columns
from regie_chassis.events.messaging import Event
from regie_chassis.process.clock import Clock
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from regie_publisher.deliveries.delivery import Cause, Outcome, State
from regie_publisher.deliveries.events import stage_outcome


async def on_post_cancelled(session: AsyncSession, events: Sequence[Event[PostCancelled]], *, clock: Clock) -> None:
    """Cancels the posts' deliveries without a call: none is under way, and no earlier one may still land.

    The cancellation is remembered for a `PostDue` that comes after it, and for a delivery whose call is under way now
    and turns out to have had no effect.
    """
    now = clock.now()
    post_ids = [parse_id(POST, event.message.post_id) for event in events]
    rows = [
        (event.workspace_id, post_id, event.message.revision, event.traceparent, trace_id_of(event.traceparent))
        for event, post_id in zip(events, post_ids, strict=True)
    ]
    columns = {"now": now, **_WANTED.parameters(rows)}
    await lock_posts(session, post_ids, shared=False)
    await session.execute(_REMEMBER, columns)
    cancelled = Outcome(State.CANCELLED, Cause.POST_CANCELLED)
    for row in await session.execute(_CANCEL, columns):
        stage_outcome(session, row, cancelled, time=now, traceparent=row.traceparent)


async def lock_posts(session: AsyncSession, post_ids: Sequence[UUID], *, shared: bool) -> None:
    """Locks posts until the end of the transaction: otherwise a due and a cancellation of one post that are handled at
    the same time would not see each other.
    """
    await session.execute(_LOCK_POSTS_SHARED if shared else _LOCK_POSTS, {"ids": post_ids})


async def find_cancellations(session: AsyncSession, post_ids: Sequence[UUID]) -> dict[tuple[UUID, UUID], int]:
    """Returns the highest cancelled revision by workspace and post."""
    rows = await session.execute(_FIND_CANCELLATIONS, {"ids": post_ids})
    return {(row.workspace_id, row.post_id): row.revision for row in rows}


_POST_KEYS = """
    (
        SELECT DISTINCT hashtextextended(CAST(id AS text), 0) AS key FROM unnest(CAST(:ids AS uuid[])) AS id
        ORDER BY key
    ) AS keys
"""
_LOCK_POSTS_SHARED = text(f"SELECT pg_advisory_xact_lock_shared(key) FROM {_POST_KEYS}")
_LOCK_POSTS = text(f"SELECT pg_advisory_xact_lock(key) FROM {_POST_KEYS}")

_FIND_CANCELLATIONS = text(
    "SELECT workspace_id, post_id, revision FROM cancellation WHERE post_id = ANY(CAST(:ids AS uuid[]))"
)

_WANTED = Columns("wanted", workspace_id="uuid", post_id="uuid", revision="bigint", traceparent="text", trace_id="text")

_REMEMBER = text(
    f"""
    INSERT INTO cancellation (workspace_id, post_id, revision, time)
    SELECT workspace_id, post_id, max(revision), :now FROM {_WANTED.unnest}
    GROUP BY workspace_id, post_id
    ON CONFLICT (workspace_id, post_id)
        DO UPDATE SET revision = greatest(cancellation.revision, excluded.revision), time = excluded.time
    """
)

_CANCEL = text(
    f"""
    WITH locked AS (
        SELECT d.id, wanted.traceparent, wanted.trace_id FROM delivery AS d
        JOIN {_WANTED.unnest}
            ON d.post_id = wanted.post_id AND d.workspace_id = wanted.workspace_id AND d.revision <= wanted.revision
        WHERE d.state IN ('pending', 'claimed') AND d.remote_ids = '{{}}' AND d.call_end_time IS NULL
        ORDER BY d.id FOR UPDATE OF d
    ), stopped AS (
        UPDATE delivery AS d SET state = 'cancelled', next_action_time = NULL, fence = d.fence + 1
        FROM locked AS w
        WHERE d.id = w.id
        RETURNING d.id, d.workspace_id, d.post_id, d.channel_id, d.network, d.revision, d.attempt_number, w.traceparent,
            w.trace_id
    ), noted AS (
        INSERT INTO delivery_change (delivery_id, time, state, cause, attempt_number, trace_id)
        SELECT id, :now, 'cancelled', 'PostCancelled', attempt_number, trace_id FROM stopped
    )
    SELECT * FROM stopped
    """
)
