"""A clock that stands still until a test moves it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


class FakeClock:
    """Waits end when their event is set or when `advance` moves the time past them."""

    def __init__(self, now: datetime = START) -> None:
        self._now = now
        self._moved = asyncio.Condition()

    def now(self) -> datetime:
        return self._now

    async def advance(self, by: timedelta) -> None:
        """Moves the time forward and lets every wait look again."""
        async with self._moved:
            self._now += by
            self._moved.notify_all()

    async def wait(self, event: asyncio.Event, timeout: timedelta) -> bool:
        deadline = self._now + timeout
        if event.is_set() or timeout <= timedelta(0):
            return event.is_set()
        waiting = [asyncio.create_task(event.wait()), asyncio.create_task(self._until(deadline))]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()
        return event.is_set()

    async def _until(self, deadline: datetime) -> None:
        async with self._moved:
            await self._moved.wait_for(lambda: self._now >= deadline)
