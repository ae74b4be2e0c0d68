"""The public event log: every event of every service as JSON, in an order that can be replayed without gaps.

Numbers of a sequence commit out of order, so a reader that went "after the last number" would skip late commits.
Rows therefore carry their transaction's id, and readers stop before the oldest transaction of this database that is
still running: below that horizon nothing can appear any more. The order is (transaction, number).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import orjson
from regie_chassis.boundary.errors import RegieError
from regie_chassis.data.bulk import Columns
from regie_chassis.data.database import after_commit
from regie_chassis.data.paging import PAGE_BYTES
from regie_chassis.events.contracts import aggregate_of
from regie_chassis.events.messaging import Event
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from regie_gateway.events.event_json import data_of

KEEP = timedelta(days=7)
LAST = 2**63 - 1


class EventGone(RegieError):
    """The event to go on from is not in the log (any more)."""

    http_status = 410


class Position(NamedTuple):
    """A place between two events of the log."""

    xact: int
    sequence: int


@dataclass(frozen=True, slots=True)
class LoggedEvent:
    """An event as it leaves; `data` is JSON text."""

    position: Position
    id: UUID
    type: str
    subject: str
    time: datetime
    data: str
    traceparent: str
    source_sequence: int
    """Grows with each event of its source about one subject; 0 for none."""


@dataclass(frozen=True, slots=True)
class Page:
    """Events in order, and the end of the read part of the log."""

    events: Sequence[LoggedEvent]
    position: Position


async def record_events(session: AsyncSession, events: Sequence[Event[Any]], *, wake: Callable[[], None]) -> None:
    """Writes events to the log; repeatable. `wake` is called once they are durable."""
    rows = [
        (
            event.id,
            event.workspace_id,
            event.message.DESCRIPTOR.full_name,
            aggregate_of(event.message),
            event.time,
            orjson.dumps(data_of(event.message)).decode(),
            event.traceparent,
            event.sequence,
        )
        for event in events
    ]
    await session.execute(_INSERT, _EVENTS.parameters(rows))
    after_commit(session, wake)


async def find_horizon(session: AsyncSession, *, after: int | None = None) -> int:
    """Returns the transaction below which nothing can appear any more; it never goes back.

    Transactions of the server's other databases do not count. To tell them apart costs more than a plain look, which
    suffices where it shows a horizon later than `after`.
    """
    if after is not None:
        plain: int = (await session.execute(_SELECT_PLAIN_HORIZON)).scalar_one()
        if plain > after:
            return plain
    own: int = (await session.execute(_SELECT_HORIZON)).scalar_one()
    return own


async def position_now(session: AsyncSession) -> Position:
    """Returns the place after everything that is settled."""
    return place_before(await find_horizon(session))


def place_before(horizon: int) -> Position:
    """Returns the place after everything below a horizon."""
    return Position(horizon - 1, LAST)


async def position_of(session: AsyncSession, *, workspace_id: UUID, event_id: UUID) -> Position:
    """Returns the place right after an event. Raises EventGone."""
    rows = await session.execute(_SELECT_POSITION, {"workspace_id": workspace_id, "id": event_id})
    row = rows.one_or_none()
    if row is None:
        raise EventGone(
            "this event is not in the log (any more); read what you need and start anew without Last-Event-ID",
            field="Last-Event-ID",
        )
    return Position(row.xact, row.sequence)


async def read_page(
    session: AsyncSession, *, workspace_id: UUID, after: Position, horizon: int, types: Collection[str], limit: int
) -> Page:
    """Returns the workspace's next events below a horizon, up to `limit` and to PAGE_BYTES; no `types` means all."""
    rows = await session.execute(
        _SELECT_PAGE,
        {
            "workspace_id": workspace_id,
            "xact": after.xact,
            "sequence": after.sequence,
            "horizon": horizon,
            "types": sorted(types),
            "limit": limit,
            "max_bytes": PAGE_BYTES,
        },
    )
    selected = rows.all()
    events = [_event(row) for row in selected]
    if events and (len(events) == limit or len(events) < selected[0].matching):
        return Page(events, events[-1].position)
    return Page(events, max(after, place_before(horizon)))


async def read_workspaces(session: AsyncSession, *, after: Position, horizon: int) -> set[UUID]:
    """Returns the workspaces with new events below a horizon."""
    place = {"xact": after.xact, "sequence": after.sequence, "horizon": horizon}
    return set((await session.execute(_SELECT_GROWN, place)).scalars())


async def purge(session: AsyncSession, *, now: datetime) -> None:
    """Forgets events that are older than KEEP."""
    await session.execute(_PURGE, {"limit": now - KEEP})


def _event(row: Any) -> LoggedEvent:
    position = Position(row.xact, row.sequence)
    return LoggedEvent(
        position, row.id, row.type, row.subject, row.time, row.data, row.traceparent, row.source_sequence
    )


_EVENTS = Columns(
    id="uuid",
    workspace_id="uuid",
    type="text",
    subject="text",
    time="timestamptz",
    data="jsonb",
    traceparent="text",
    source_sequence="bigint",
)

_INSERT = text(
    f"""
    INSERT INTO public_event ({_EVENTS.names}) SELECT {_EVENTS.names} FROM {_EVENTS.unnest}
    ON CONFLICT (id) DO NOTHING
    """
)

_SELECT_PLAIN_HORIZON = text("SELECT CAST(CAST(pg_snapshot_xmin(pg_current_snapshot()) AS text) AS bigint)")

# A transaction that is not surely another database's counts as one of ours: later it has ended, or is found elsewhere.
_SELECT_HORIZON = text(
    """
    WITH now AS MATERIALIZED (SELECT pg_current_snapshot() AS snapshot),
    elsewhere AS (
        SELECT locks.transactionid AS xid FROM pg_locks AS locks JOIN pg_stat_activity AS activity USING (pid)
        WHERE locks.locktype = 'transactionid' AND locks.mode = 'ExclusiveLock' AND locks.granted
            AND activity.datname <> current_database()
        UNION ALL
        SELECT transaction FROM pg_prepared_xacts WHERE database <> current_database()
    )
    SELECT CAST(CAST(coalesce(
        (SELECT running FROM now, pg_snapshot_xip(now.snapshot) AS running
         WHERE xid(running) NOT IN (SELECT xid FROM elsewhere) ORDER BY running LIMIT 1),
        pg_snapshot_xmax(now.snapshot)
    ) AS text) AS bigint) FROM now
    """
)

_SELECT_POSITION = text("SELECT xact, sequence FROM public_event WHERE workspace_id = :workspace_id AND id = :id")

_SELECT_PAGE = text(
    """
    SELECT * FROM (
        SELECT *, count(*) OVER () AS matching,
            sum(octet_length(data)) OVER (ORDER BY xact, sequence) - octet_length(data) AS bytes_before
        FROM (
            SELECT xact, sequence, id, type, subject, time, CAST(data AS text) AS data, traceparent,
                source_sequence
            FROM public_event
            WHERE workspace_id = :workspace_id AND (xact, sequence) > (:xact, :sequence) AND xact < :horizon
                AND (CAST(:types AS text[]) = '{}' OR type = ANY(CAST(:types AS text[])))
            ORDER BY xact, sequence LIMIT :limit
        ) AS next
    ) AS sized WHERE bytes_before < :max_bytes ORDER BY xact, sequence
    """
)

_SELECT_GROWN = text(
    """
    SELECT DISTINCT workspace_id FROM public_event WHERE (xact, sequence) > (:xact, :sequence) AND xact < :horizon
    """
)

_PURGE = text("DELETE FROM public_event WHERE record_time < :limit")
