"""The loop that says who entered a segment when it was filled, so that a filling of any size stays one statement
and never floods the outbox from within its transaction.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta

import structlog
from regie_chassis.clock import Clock
from regie_chassis.database import Database, is_transient

from regie_audience.memberships import ANNOUNCED_AT_ONCE, announce_entries

LOOK_EVERY = timedelta(seconds=1)

log = structlog.get_logger()


class Announcements:
    """Any number of replicas may run."""

    name = "announcements"

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def run(self, stopping: asyncio.Event) -> None:
        """Announces until told to stop; what is left by then waits in its table. Waits outages out."""
        while not stopping.is_set():
            try:
                async with self._database.transaction() as session:
                    said = await announce_entries(session)
            except Exception as error:
                if not is_transient(error):
                    raise
                log.warning("announcements.waits_for_database", error=type(error).__name__)
                said = 0
            if said < ANNOUNCED_AT_ONCE:
                await self._clock.wait(stopping, LOOK_EVERY)
