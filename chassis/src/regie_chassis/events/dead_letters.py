"""Messages that could not be handled, kept with the reason in the database of the service that failed at them.

In the database and not in a stream, so that setting aside is one transaction, survives the broker, and a redrive
runs the one handler that failed instead of every subscriber (ADR 0006).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from google.protobuf.message import Message
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from regie_chassis.boundary.telemetry import traceparent_from
from regie_chassis.boundary.text import storable
from regie_chassis.data.database import Database
from regie_chassis.events import inbox
from regie_chassis.events.messaging import Envelope, Received, decode

MAX_REASON = 1_000  # characters


async def keep(session: AsyncSession, stream: str, received: Received, *, reason: str, attempts: int) -> None:
    """Sets a message aside. Repeatable: a message that is delivered again is not kept twice."""
    await session.execute(
        _INSERT_LETTER,
        {
            "stream": stream,
            "seq": received.stream_seq,
            "subject": storable(received.envelope.subject),
            "headers": json.dumps({storable(k): storable(v) for k, v in received.envelope.headers.items()}),
            "payload": received.envelope.payload,
            "reason": storable(reason, most=MAX_REASON),
            "attempts": attempts,
        },
    )


@dataclass(frozen=True, slots=True)
class Redriven:
    """The result of a redrive: the handled letters, and the letters that failed again with the reason."""

    handled: list[int]
    failed: dict[int, str]


async def redrive(
    database: Database, subscriptions: Mapping[type[Message], Any], *, letter: int | None = None
) -> Redriven:
    """Handles dead letters again, the oldest first, each in its own transaction; one letter, or all.

    A letter that is handled is deleted in the same transaction; one that fails again stays, with the new reason.
    """
    kinds = {kind.DESCRIPTOR.full_name: (kind, handler) for kind, handler in subscriptions.items()}
    async with database.reading() as session:
        rows = await session.execute(_SELECT_LETTERS, {"id": letter})
        letters = rows.all()
    handled: list[int] = []
    failed: dict[int, str] = {}
    for row in letters:
        try:
            kind, handler = kinds[row.headers.get("ce-type", row.subject)]
            envelope = Envelope(row.subject, row.headers.get("ce-id", ""), row.payload, row.headers)
            event = decode(envelope, kind, traceparent_from(row.headers))
            async with database.transaction() as session:
                if await inbox.claim(session, [event.id]):
                    await handler(session, [event])
                await session.execute(_DELETE_LETTER, {"id": row.id})
        except Exception as error:  # noqa: BLE001  # broad: the letter failed again, whatever the cause; it stays and says why
            failed[row.id] = f"{type(error).__name__}: {error}"[:1000]
        else:
            handled.append(row.id)
    async with database.transaction() as session:
        for letter_id, reason in failed.items():
            await session.execute(_KEEP_REASON, {"id": letter_id, "reason": storable(reason, most=MAX_REASON)})
    return Redriven(handled, failed)


async def purge(session: AsyncSession, *, now: datetime, life: timedelta) -> None:
    """Deletes letters that nobody has redriven in their life."""
    await session.execute(_PURGE, {"limit": now - life})


_INSERT_LETTER = text(
    """
    INSERT INTO dead_letter (stream, stream_seq, subject, headers, payload, reason, attempts)
    VALUES (:stream, :seq, :subject, CAST(:headers AS jsonb), :payload, :reason, :attempts)
    ON CONFLICT ON CONSTRAINT dead_letter_once DO NOTHING
    """
)

_SELECT_LETTERS = text(
    """
    SELECT id, subject, headers, payload FROM dead_letter
    WHERE CAST(:id AS bigint) IS NULL OR id = :id ORDER BY id
    """
)

_PURGE = text("DELETE FROM dead_letter WHERE dead_time < :limit")

_DELETE_LETTER = text("DELETE FROM dead_letter WHERE id = :id")

_KEEP_REASON = text("UPDATE dead_letter SET reason = :reason, attempts = attempts + 1 WHERE id = :id")
