"""Events leave through a table: staged in the transaction of their cause, and sent afterwards by `relay`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from google.protobuf.message import Message
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from regie_chassis.database import Database, after_commit, before_commit
from regie_chassis.ids import new_id
from regie_chassis.telemetry import current_traceparent


@dataclass(frozen=True, slots=True)
class Staged:
    """An event that waits for its transaction to commit."""

    event_id: UUID
    aggregate_id: str
    workspace_id: UUID
    type: str
    payload: bytes
    traceparent: str
    event_time: datetime


def stage(
    session: AsyncSession,
    message: Message,
    *,
    workspace_id: UUID,
    aggregate_id: str,
    time: datetime,
    traceparent: str | None = None,
) -> None:
    """Says an event when, and only when, the session's transaction commits.

    Events of one aggregate keep the order in which they were staged. `traceparent` defaults to the current span's.
    """
    staged: list[Staged] | None = session.info.get("outbox")
    if staged is None:
        staged = session.info["outbox"] = []
        before_commit(session, _write)
    staged.append(
        Staged(
            new_id(),
            aggregate_id,
            workspace_id,
            message.DESCRIPTOR.full_name,
            message.SerializeToString(),
            current_traceparent() if traceparent is None else traceparent,
            time,
        )
    )


async def _write(session: AsyncSession) -> None:
    rows: list[Staged] = session.info.pop("outbox")
    after_commit(session, session.info["staged"].set)
    await session.execute(
        text(
            """
            INSERT INTO outbox (event_id, aggregate_id, workspace_id, type, payload, traceparent, event_time)
            SELECT * FROM unnest(
                CAST(:event_ids AS uuid[]), CAST(:aggregate_ids AS text[]), CAST(:workspace_ids AS uuid[]),
                CAST(:types AS text[]), CAST(:payloads AS bytea[]), CAST(:traceparents AS text[]),
                CAST(:event_times AS timestamptz[]))
            """
        ),
        {
            "event_ids": [row.event_id for row in rows],
            "aggregate_ids": [row.aggregate_id for row in rows],
            "workspace_ids": [row.workspace_id for row in rows],
            "types": [row.type for row in rows],
            "payloads": [row.payload for row in rows],
            "traceparents": [row.traceparent for row in rows],
            "event_times": [row.event_time for row in rows],
        },
    )


async def unsent_count(database: Database) -> int:
    """Returns how many events wait to be relayed; zero when the service is quiet."""
    async with database.reading() as session:
        rows = await session.execute(text("SELECT count(*) FROM outbox WHERE sent_time IS NULL"))
        return int(rows.scalar_one())
