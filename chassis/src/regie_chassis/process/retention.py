"""Removes rows that have outlived their use: the chassis' own, and a service's by `purge_loop`.

The outbox is no part of it: the relay purges it, right after it has compared the stream with it. An outage of NATS
may last longer than the life of a sent row, and a lost tail is replayed from these rows.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import partial
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncSession

from regie_chassis.data.database import Database
from regie_chassis.events import dead_letters, inbox, outbox
from regie_chassis.process.clock import Clock
from regie_chassis.process.loops import PeriodicLoop
from regie_chassis.process.settings import Lives

PURGE_EVERY = timedelta(hours=1)
RESTORE_WINDOW = timedelta(days=30)  # a backup that is older is not restored to go on from
KEYS_LIFE = timedelta(days=60)  # of keys that make something once: longer than streams, inboxes and the restore window


class Purge(Protocol):
    """Deletes old rows; returns something true when there may be more of them."""

    async def __call__(self, session: AsyncSession, *, now: datetime) -> object: ...


def purge_loop(
    name: str, purge: Purge, *, database: Database, clock: Clock, every: timedelta = PURGE_EVERY
) -> PeriodicLoop:
    """Returns the loop that calls `purge` in a transaction of its own. Any number of replicas may run it."""

    async def act() -> object:
        async with database.transaction() as session:
            return await purge(session, now=clock.now())

    return PeriodicLoop(name, act, idle=every, clock=clock)


def messaging_purges(lives: Lives, *, database: Database, clock: Clock) -> list[PeriodicLoop]:
    """Returns the loops that purge the inbox, the dead letters and the dead rows of the outbox."""
    purges: dict[str, Purge] = {
        "inbox purge": partial(inbox.purge, life=lives.inbox),
        "dead letter purge": partial(dead_letters.purge, life=lives.dead),
        "dead outbox purge": partial(outbox.purge_dead, life=lives.dead),
    }
    return [purge_loop(name, purge, database=database, clock=clock) for name, purge in purges.items()]
