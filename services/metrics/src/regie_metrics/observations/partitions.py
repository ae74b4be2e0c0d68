"""One partition of `observation` for each UTC day: made ahead of time, made by the ingest where one is missing,
and dropped as a whole once the day has passed its retention.

There is no DEFAULT partition: every later partition would have to search it for rows of its own, and a row in it
escapes the retention.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta

import structlog
from regie_chassis.data.bulk import Columns
from regie_chassis.data.database import LOCK_NOT_AVAILABLE, Database
from regie_chassis.process.clock import Clock
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from regie_metrics import telemetry

AHEAD = timedelta(days=3)
LOOK_EVERY = timedelta(hours=1)
LOCK_TIMEOUT = "2s"  # for the drop, which stops the ingest while it waits
PARTITION_LOCK = 0x706172746974696F  # "partitio"; whoever makes partitions holds it until commit

log = structlog.get_logger()


class Partitions:
    """Makes partitions ahead of time and drops old ones. Any number of replicas may run."""

    def __init__(self, database: Database, clock: Clock, *, retention: timedelta) -> None:
        self._database = database
        self._clock = clock
        self._retention = retention

    async def look(self) -> None:
        """Makes the partitions of today and the days ahead, and drops those past the retention, one at a time."""
        now = self._clock.now()
        async with self._database.transaction() as session:
            await ensure(session, (_day(now) + timedelta(days=n) for n in range(AHEAD.days + 1)))
        async with self._database.reading() as session:
            old = await _older_than(session, _day(now - self._retention))
        for name in old:
            await self._drop(name)

    async def _drop(self, name: str) -> None:
        try:
            async with self._database.transaction() as session:
                await session.execute(_SET_LOCK_TIMEOUT)
                await session.execute(text(f"DROP TABLE IF EXISTS {name}"))
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) != LOCK_NOT_AVAILABLE:
                raise
            log.info("partitions.drop_put_off", partition=name)
        else:
            telemetry.partition_dropped(name)


async def ensure(session: AsyncSession, days: Iterable[date]) -> None:
    """Makes the partitions of these days where they are missing. Commits with the session; any number may call.

    A partition is made beside the parent and then attached, since that lets others go on inserting meanwhile
    (`CREATE TABLE … PARTITION OF` would lock the parent against them).
    """
    in_order = sorted(set(days))
    if not await _missing(session, in_order):
        return
    await session.execute(_LOCK, {"key": PARTITION_LOCK})
    for day in await _missing(session, in_order):
        name, start = _name(day), datetime(day.year, day.month, day.day, tzinfo=UTC)
        await session.execute(text(f"CREATE TABLE {name} (LIKE observation INCLUDING ALL)"))
        await session.execute(
            text(
                f"ALTER TABLE observation ATTACH PARTITION {name}"
                f" FOR VALUES FROM ('{start.isoformat()}') TO ('{(start + timedelta(days=1)).isoformat()}')"
            )
        )
        telemetry.partition_made(name)


def _day(time: datetime) -> date:
    return time.astimezone(UTC).date()


def _name(day: date) -> str:
    return f"observation_{day:%Y%m%d}"


async def _missing(session: AsyncSession, days: list[date]) -> list[date]:
    # Not to_regclass(): it answers from a cache that a partition made meanwhile need not have reached.
    rows = await session.execute(_FIND_MISSING, _NEEDED.parameters((day, _name(day)) for day in days))
    return list(rows.scalars())


async def _older_than(session: AsyncSession, day: date) -> list[str]:
    rows = await session.execute(_FIND_OLDER, {"name": _name(day)})
    return list(rows.scalars())


_SET_LOCK_TIMEOUT = text(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")

_LOCK = text("SELECT pg_advisory_xact_lock(:key)")

_PARTITIONS = (
    "SELECT CAST(child.relname AS text) FROM pg_inherits JOIN pg_class AS child ON child.oid = inhrelid"
    " WHERE inhparent = CAST('observation' AS regclass)"
)

_NEEDED = Columns("needed", day="date", name="text")

_FIND_MISSING = text(
    f"""
    SELECT day FROM {_NEEDED.unnest}
    WHERE name NOT IN ({_PARTITIONS}) ORDER BY day
    """
)

_FIND_OLDER = text(f"SELECT name FROM ({_PARTITIONS}) AS made (name) WHERE name < :name ORDER BY name")
