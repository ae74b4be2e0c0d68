"""Roll-ups of old posts are deleted once they have outlived their use.

A series is the running sum of its differences, so that it is deleted as a whole: all buckets of a number on one channel
go together, once the newest of them is older than the life.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from regie_metrics.observations.rollups import KEY

BATCH = 200  # series a transaction; one has some hundred buckets


async def purge_hourly(session: AsyncSession, *, now: datetime, life: timedelta, batch: int = BATCH) -> bool:
    """Deletes up to `batch` hourly series that ended longer than `life` ago. Returns True when there may be more."""
    rows = await session.execute(_PURGE_HOURLY, {"limit": now - life, "batch": batch})
    return bool(rows.scalar_one() == batch)


async def purge_daily(session: AsyncSession, *, now: datetime, life: timedelta, batch: int = BATCH) -> bool:
    """Deletes up to `batch` daily series that ended longer than `life` ago, with their newest numbers.

    Returns True when there may be more.
    """
    rows = await session.execute(_PURGE_DAILY, {"limit": now - life, "batch": batch})
    return bool(rows.scalar_one() == batch)


def _purge(table: str, *also: str) -> str:
    deletes = ", ".join(
        f"purged_{name} AS (DELETE FROM {name} WHERE ({KEY}) IN (SELECT {KEY} FROM ended))" for name in (table, *also)
    )
    return f"""
        WITH ended AS MATERIALIZED (
            SELECT DISTINCT {KEY} FROM {table} AS bucket
            WHERE start_time < :limit AND NOT EXISTS (
                SELECT FROM {table} AS newer
                WHERE newer.workspace_id = bucket.workspace_id AND newer.post_id = bucket.post_id
                    AND newer.metric = bucket.metric AND newer.channel_id = bucket.channel_id
                    AND newer.start_time >= :limit
            )
            LIMIT :batch
        ), {deletes}
        SELECT count(*) FROM ended
    """


_PURGE_HOURLY = text(_purge("hourly"))
_PURGE_DAILY = text(_purge("daily", "latest"))
