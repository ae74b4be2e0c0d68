"""Loops that look for work every so often, survive outages of the database, and stop when told."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

import structlog
from regie_chassis.clock import Clock
from regie_chassis.database import is_transient

from regie_publisher.fairness.slots import Slots

OUTAGE_PAUSE = timedelta(seconds=1)

log = structlog.get_logger()


class Polling:
    """Calls `act` again at once while it finds something, and after `idle` when it does not.

    `slots` are the places in which what `act` begins goes on; it is called again as soon as one becomes free, but
    `pace` apart: what gathers meanwhile is begun together, which costs less than one by one.
    """

    def __init__(
        self,
        name: str,
        act: Callable[[], Awaitable[int]],
        *,
        idle: timedelta,
        clock: Clock,
        slots: Slots | None = None,
        pace: timedelta = timedelta(0),
    ) -> None:
        self.name = name
        self._act = act
        self._slots = slots
        self._idle = idle
        self._pace = pace
        self._clock = clock

    async def run(self, stopping: asyncio.Event) -> None:
        """Acts until told to stop, then finishes what was begun."""
        if self._slots is None:
            await self._act_until(stopping, stopping)
            return
        waker = asyncio.create_task(_set_after(stopping, self._slots.wake))
        try:
            await self._act_until(stopping, self._slots.wake)
            await self._slots.finish()
        finally:
            waker.cancel()
            self._slots.cancel()

    async def _act_until(self, stopping: asyncio.Event, wake: asyncio.Event) -> None:
        down = False
        while not stopping.is_set():
            if wake is not stopping:
                wake.clear()
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
                await self._clock.wait(wake, self._idle)
            elif self._pace:
                await self._clock.wait(stopping, self._pace)


async def _set_after(first: asyncio.Event, second: asyncio.Event) -> None:
    await first.wait()
    second.set()
