"""Memberships that ended are deleted once they have outlived their use.

Those of a deleted segment go with it: see `work`.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

BATCH = 5_000  # memberships a transaction


async def purge_left_memberships(session: AsyncSession, *, now: datetime, life: timedelta, batch: int = BATCH) -> bool:
    """Deletes up to `batch` memberships that ended longer than `life` ago. Returns True when there may be more."""
    rows = await session.execute(_PURGE, {"limit": now - life, "batch": batch})
    return len(rows.all()) == batch


# SKIP LOCKED: a profile that enters again at this moment is not waited for.
_PURGE = text(
    """
    DELETE FROM membership WHERE (segment_id, profile_id) IN (
        SELECT segment_id, profile_id FROM membership WHERE leave_time < :limit
        ORDER BY leave_time LIMIT :batch FOR UPDATE SKIP LOCKED
    )
    RETURNING 1
    """
)
