"""What has to be done now and then: forgetting old rows, noting which keys were in use. Safe on every replica."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

import structlog
from regie_chassis.clock import Clock
from regie_chassis.database import Database, is_transient

from regie_gateway.access import api_keys, idempotency
from regie_gateway.access.authentication import Authenticator
from regie_gateway.events import event_log

EVERY = timedelta(minutes=1)
PURGE_EVERY = timedelta(minutes=30)

log = structlog.get_logger()


class Housekeeping:
    """A loop of the service."""

    name = "housekeeping"

    def __init__(self, database: Database, authenticator: Authenticator, clock: Clock) -> None:
        self._database = database
        self._authenticator = authenticator
        self._clock = clock
        self._purge_time: datetime | None = None

    async def run(self, stopping: asyncio.Event) -> None:
        """Keeps house until told to stop."""
        while not stopping.is_set():
            await self._clock.wait(stopping, EVERY)
            try:
                await self.keep_house()
            except Exception as error:
                if not is_transient(error):
                    raise
                log.warning("housekeeping.waits_for_database", error=type(error).__name__)

    async def keep_house(self) -> None:
        """Notes the use of keys, and forgets old rows when it is time."""
        now = self._clock.now()
        used = self._authenticator.take_used()
        async with self._database.transaction() as session:
            if used:
                await api_keys.note_use(session, key_ids=used, now=now)
            if self._purge_time is None or now >= self._purge_time:
                await idempotency.purge(session, now=now)
                await event_log.purge(session, now=now)
                self._purge_time = now + PURGE_EVERY
