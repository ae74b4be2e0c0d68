"""Events leave through a table: staged in the transaction of their cause, and sent afterwards by `relay`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import structlog
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from regie_chassis.boundary.errors import TooLarge
from regie_chassis.boundary.ids import new_id
from regie_chassis.boundary.telemetry import current_traceparent
from regie_chassis.data.bulk import Columns
from regie_chassis.data.database import Database, after_commit, before_commit
from regie_chassis.events.contracts import aggregate_of

MAX_EVENT = 900 * 1024  # bytes of a message; the rest of NATS's usual 1 MiB is for its subject and headers
SHORT_TEXT = 1_000  # characters of each text of an event that was too large

log = structlog.get_logger()


class EventTooLarge(TooLarge):
    """The event is larger than the event stream carries. Send less at a time."""


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
    time: datetime,
    traceparent: str | None = None,
) -> None:
    """Stages an event, which is published when, and only when, the session's transaction commits.

    Events about one thing, which the option `about` of their message names, keep the order in which they were staged.
    `traceparent` defaults to the current span's.
    Raises EventTooLarge, before anything is staged, where NATS could not carry it: the cause fails and not the relay.
    Where many rows share a transaction, none may fail the others: check with `fits`, or stage `fitting(message)`.
    """
    payload = message.SerializeToString()
    if len(payload) > MAX_EVENT:
        raise EventTooLarge(
            f"{message.DESCRIPTOR.name} would have {len(payload):,} bytes of at most {MAX_EVENT:,}; send less at a time"
        )
    staged: list[Staged] | None = session.info.get("outbox")
    if staged is None:
        staged = session.info["outbox"] = []
        before_commit(session, _write)
    staged.append(
        Staged(
            new_id(),
            aggregate_of(message),
            workspace_id,
            message.DESCRIPTOR.full_name,
            payload,
            current_traceparent() if traceparent is None else traceparent,
            time,
        )
    )


def fits(message: Message) -> bool:
    """True when `stage` takes the message."""
    return message.ByteSize() <= MAX_EVENT


def fitting(message: Message) -> Message:
    """Returns the message, or where it is too large to be staged a copy with its texts cut short.

    For facts that must be recorded however long a network's message about them is.
    """
    if fits(message):
        return message
    log.error("outbox.event_cut_short", type=message.DESCRIPTOR.full_name, bytes=message.ByteSize())
    short = type(message)()
    short.CopyFrom(message)
    _cut_texts(short)
    return short


def _cut_texts(message: Message) -> None:
    for field, value in message.ListFields():
        if field.is_repeated:
            continue
        if field.type == FieldDescriptor.TYPE_STRING:
            setattr(message, field.name, value[:SHORT_TEXT])
        elif field.type == FieldDescriptor.TYPE_MESSAGE:
            _cut_texts(value)


async def _write(session: AsyncSession) -> None:
    rows: list[Staged] = session.info.pop("outbox")
    after_commit(session, session.info["staged"].set)
    await session.execute(
        _INSERT,
        _STAGED.parameters_of(rows),
    )


WAITING = "sent_time IS NULL AND dead_time IS NULL"
"""Rows on their way; the words of the index `outbox_waiting`."""


async def unsent_count(database: Database) -> int:
    """Returns how many events wait to be relayed; zero when the service is quiet."""
    async with database.reading() as session:
        rows = await session.execute(_COUNT_UNSENT)
        return int(rows.scalar_one())


async def redrive(database: Database, *, row: int | None = None) -> list[int]:
    """Gives events that could not be sent another try; one, or all. Returns their ids."""
    async with database.transaction() as session:
        rows = await session.execute(_REDRIVE, {"id": row})
        return sorted(rows.scalars())


async def purge_sent(session: AsyncSession, *, now: datetime, life: timedelta) -> None:
    """Deletes events that were acknowledged longer ago than their life."""
    await session.execute(_PURGE_SENT, {"limit": now - life})


async def purge_dead(session: AsyncSession, *, now: datetime, life: timedelta) -> None:
    """Deletes events that can never be sent and that nobody has redriven in their life."""
    await session.execute(_PURGE_DEAD, {"limit": now - life})


_STAGED = Columns(
    event_id="uuid",
    aggregate_id="text",
    workspace_id="uuid",
    type="text",
    payload="bytea",
    traceparent="text",
    event_time="timestamptz",
)

_INSERT = text(f"INSERT INTO outbox ({_STAGED.names}) SELECT {_STAGED.names} FROM {_STAGED.unnest}")

_PURGE_SENT = text("DELETE FROM outbox WHERE sent_time < :limit")

_PURGE_DEAD = text("DELETE FROM outbox WHERE dead_time < :limit")

_COUNT_UNSENT = text(f"SELECT count(*) FROM outbox WHERE {WAITING}")

_REDRIVE = text(
    """
    UPDATE outbox SET dead_time = NULL, dead_reason = ''
    WHERE dead_time IS NOT NULL AND (CAST(:id AS bigint) IS NULL OR id = :id) RETURNING id
    """
)
