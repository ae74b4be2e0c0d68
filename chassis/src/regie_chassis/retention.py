"""Removes rows that have outlived their use."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncSession

from regie_chassis.clock import Clock
from regie_chassis.database import Database
from regie_chassis.loops import PeriodicLoop

PURGE_EVERY = timedelta(hours=1)


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
