"""Time as a collaborator: only the edges of a service ask the clock, and tests move it by hand."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """Gives the time, and waits."""

    def now(self) -> datetime:
        """Returns the current instant, aware and in UTC."""

    async def wait(self, event: asyncio.Event, timeout: timedelta) -> bool:
        """Waits until the event is set or the time has passed. Returns True when it was the event."""


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    async def wait(self, event: asyncio.Event, timeout: timedelta) -> bool:
        try:
            async with asyncio.timeout(max(timeout.total_seconds(), 0)):
                await event.wait()
        except TimeoutError:
            return False
        return True
