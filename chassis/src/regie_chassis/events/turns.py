"""Chooses which outbox rows the relay sends next: workspaces take turns, each one's rows in their order.

Nothing idles while a row waits: a single workspace gets the whole batch, and unused shares go to workspaces with more
rows. A million rows of one workspace cost another one a batch (ADR 0019).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from regie_chassis.events.outbox import WAITING

BATCH = 500  # rows, and workspaces that are looked at for one batch
BATCH_BYTES = 16 * 1024 * 1024  # of payloads held in memory at once
AHEAD = 4  # times the batch: ids looked at, so that shares that are not used up can be given to others
FIRST = UUID(int=0)  # before every workspace


@dataclass(frozen=True, slots=True)
class Row:
    """An outbox row on its way."""

    id: int
    event_id: UUID
    aggregate_id: str
    workspace_id: UUID
    type: str
    payload: bytes
    traceparent: str
    event_time: datetime


class Turns:
    """Where the turns have come to, for when more workspaces wait than one batch can serve."""

    def __init__(self) -> None:
        self._after = FIRST

    async def next_rows(self, session: AsyncSession) -> list[Row]:
        """Returns up to BATCH rows that wait, none only when none waits."""
        rows = await _rows(session, after=self._after)
        if not rows and self._after != FIRST:
            self._after = FIRST
            rows = await _rows(session, after=self._after)
        workspaces = {row.workspace_id for row in rows}
        self._after = max(workspaces) if len(workspaces) >= BATCH else FIRST
        return rows


async def oldest_waiting(session: AsyncSession) -> datetime | None:
    """Returns the time of the oldest event that waits, of the workspaces' first ones; None when none waits."""
    rows = await session.execute(_OLDEST)
    oldest: datetime | None = rows.scalar_one()
    return oldest


async def _rows(session: AsyncSession, *, after: UUID) -> list[Row]:
    rows = await session.execute(_NEXT, {"after": after, "batch": BATCH, "ahead": AHEAD * BATCH, "bytes": BATCH_BYTES})
    return [Row(*row) for row in rows]


# By "waiting", never by "after the last id": ids commit out of order. The recursion jumps from workspace to workspace
# in the index, however many rows each of them has. BETWEEN instead of "=": with a constant workspace the planner may
# take the primary key for the order, and reads through the whole backlog to a quiet workspace's row.
_WORKSPACES = f"""
    WITH RECURSIVE workspace (id) AS (
        (SELECT workspace_id FROM outbox WHERE {WAITING} AND workspace_id > CAST(:after AS uuid)
         ORDER BY workspace_id LIMIT 1)
        UNION ALL
        SELECT (SELECT workspace_id FROM outbox WHERE {WAITING} AND workspace_id > workspace.id
                ORDER BY workspace_id LIMIT 1)
        FROM workspace WHERE workspace.id IS NOT NULL
    )
"""
_NEXT = text(
    _WORKSPACES
    + f"""
    , turn AS MATERIALIZED (SELECT id FROM workspace WHERE id IS NOT NULL LIMIT :batch),
    share AS (SELECT greatest(least(CAST(:batch AS int), CAST(:ahead AS int) / greatest(count(*), 1)), 1) AS rows
              FROM turn),
    chosen AS MATERIALIZED (
        SELECT waiting.id, turn.id AS workspace_id, waiting.rank
        FROM turn CROSS JOIN share CROSS JOIN LATERAL (
            SELECT id, row_number() OVER (ORDER BY id) AS rank FROM (
                SELECT id FROM outbox WHERE {WAITING} AND workspace_id BETWEEN turn.id AND turn.id
                ORDER BY workspace_id, id LIMIT share.rows
            ) AS first
        ) AS waiting
        ORDER BY waiting.rank, turn.id LIMIT :batch
    )
    SELECT id, event_id, aggregate_id, workspace_id, type, payload, traceparent, event_time FROM (
        SELECT outbox.*, chosen.rank,
            sum(octet_length(payload)) OVER (ORDER BY chosen.rank, chosen.workspace_id) - octet_length(payload)
                AS before
        FROM chosen JOIN outbox ON outbox.id = chosen.id
    ) AS fitting
    WHERE before < :bytes ORDER BY rank, workspace_id
    """
)
_OLDEST = text(
    _WORKSPACES.replace("CAST(:after AS uuid)", f"CAST('{FIRST}' AS uuid)")
    + f"""
    SELECT min(first.event_time) FROM workspace CROSS JOIN LATERAL (
        SELECT event_time FROM outbox WHERE {WAITING} AND workspace_id BETWEEN workspace.id AND workspace.id
        ORDER BY workspace_id, id LIMIT 1
    ) AS first
    """
)
