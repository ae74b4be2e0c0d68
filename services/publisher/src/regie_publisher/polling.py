"""Loops that look for work every so often, survive outages of the database, and stop when told."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

import structlog
from regie_chassis.clock import Clock
from regie_chassis.database import is_transient

OUTAGE_PAUSE = timedelta(seconds=1)

log = structlog.get_logger()


class Polling:
    """Calls `act` again at once while it finds something, and after `idle` when it does not."""

    def __init__(self, name: str, act: Callable[[], Awaitable[int]], *, idle: timedelta, clock: Clock) -> None:
        self.name = name
        self._act = act
        self._idle = idle
        self._clock = clock

    async def run(self, stopping: asyncio.Event) -> None:
        """Acts until told to stop."""
        down = False
        while not stopping.is_set():
            try:
                found = await self._act()
            except Exception as error:
                if not is_transient(error):
                    raise
                if not down:
                    log.warning("polling.waits_for_database", loop=self.name, error=type(error).__name__)
                down = True
                await self._clock.wait(stopping, OUTAGE_PAUSE)
                continue
            down = False
            if not found:
                await self._clock.wait(stopping, self._idle)
