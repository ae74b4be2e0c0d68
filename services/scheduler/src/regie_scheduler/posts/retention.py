"""Ended posts are deleted with their variants and changes once they have outlived their use."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from regie_scheduler.posts.states import FINAL_STATES, PostState

BATCH = 500  # posts a transaction


async def purge_ended_posts(session: AsyncSession, *, now: datetime, life: timedelta, batch: int = BATCH) -> bool:
    """Deletes up to `batch` posts that ended longer than `life` ago. Returns True when there may be more."""
    limit = now - life
    parameters = {"limit": limit, "created_before": _first_id_at(limit), "batch": batch, "ended": _ENDED}
    rows = await session.execute(_PURGE, parameters)
    return len(rows.all()) == batch


def _first_id_at(time: datetime) -> UUID:
    """Returns the smallest UUID of version 7 that can be made at a time, but for the bits of its version."""
    return UUID(int=int(time.timestamp() * 1000) << 80)


_ENDED = [str(state) for state in FINAL_STATES | {PostState.EXPIRED}]

# A post is older than its end, so that the scan of the ids stops early and needs no index of its own.
_PURGE = text(
    """
    WITH ended AS MATERIALIZED (
        SELECT id FROM post
        WHERE id < :created_before AND state = ANY(CAST(:ended AS text[])) AND update_time < :limit
        ORDER BY id LIMIT :batch FOR UPDATE SKIP LOCKED
    ), purged_changes AS (
        DELETE FROM post_change WHERE post_id IN (SELECT id FROM ended)
    )
    DELETE FROM post WHERE id IN (SELECT id FROM ended) RETURNING id
    """
)
