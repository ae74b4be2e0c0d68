"""Which events this service has handled: one row an event, written in the handler's own transaction."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

CHUNK = 10_000  # rows that one transaction forgets


async def claim(session: AsyncSession, event_ids: Sequence[UUID]) -> set[UUID]:
    """Records events as handled and returns the new ones. Commits with the session."""
    rows = await session.execute(_CLAIM, {"ids": list(event_ids)})
    return set(rows.scalars())


async def purge(session: AsyncSession, *, now: datetime, life: timedelta) -> bool:
    """Forgets events that no stream can deliver any more. Returns whether there may be more of them."""
    rows = await session.execute(_PURGE, {"limit": now - life, "chunk": CHUNK})
    return len(rows.all()) == CHUNK


_CLAIM = text(
    """
    INSERT INTO inbox (event_id) SELECT unnest(CAST(:ids AS uuid[])) ON CONFLICT DO NOTHING RETURNING event_id
    """
)

_PURGE = text(
    """
    DELETE FROM inbox WHERE event_id IN (SELECT event_id FROM inbox WHERE receive_time < :limit LIMIT :chunk)
    RETURNING 1
    """
)
