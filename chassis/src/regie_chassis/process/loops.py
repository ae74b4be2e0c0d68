"""Loops that go on until the process stops, and wait while PostgreSQL or NATS is away.

The only place that decides which errors are an outage, how long a loop waits for its end, and how often it is logged.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime, timedelta
from typing import Protocol, TypeVar

import structlog

from regie_chassis.data.database import is_transient
from regie_chassis.events.messaging import BrokerUnavailable, NoSuchStream
from regie_chassis.process.clock import Clock

OUTAGE_PAUSE = timedelta(seconds=1)
NEW_OUTAGE = timedelta(minutes=1)  # without a failure; the next one is logged again

Result = TypeVar("Result")

log = structlog.get_logger()


class Wakeup(asyncio.Event):
    """Ends the pause of a loop early: set when there is new work, and when the process stops."""

    @asynccontextmanager
    async def tied_to(self, stopping: asyncio.Event) -> AsyncIterator[None]:
        """Sets the event once `stopping` is set, while the block runs."""
        task = asyncio.create_task(self._follow(stopping), name="wakeup: stopping")
        try:
            yield
        finally:
            task.cancel()

    async def _follow(self, stopping: asyncio.Event) -> None:
        await stopping.wait()
        self.set()


class Outages:
    """Waits while PostgreSQL or NATS does not answer, and logs each outage once.

    `on_outage` is called at each failure, before the pause.
    """

    def __init__(self, loop: str, clock: Clock, *, on_outage: Callable[[], Awaitable[None]] | None = None) -> None:
        self._loop = loop
        self._clock = clock
        self._on_outage = on_outage
        self._last_time: datetime | None = None

    @asynccontextmanager
    async def waited_out(self, wake: asyncio.Event) -> AsyncIterator[None]:
        """Runs the block; an outage ends the block, and a pause follows that `wake` cuts short. Other errors rise."""
        try:
            yield
        except Exception as error:  # broad: SQLAlchemy and asyncpg have no common class for a lost connection
            if not is_outage_or_lost(error):
                raise
            self._log(error)
            if self._on_outage is not None:
                await self._on_outage()
            await self._clock.wait(wake, OUTAGE_PAUSE)

    def _log(self, error: Exception) -> None:
        now = self._clock.now()
        if self._last_time is None or now - self._last_time > NEW_OUTAGE:
            if isinstance(error, BrokerUnavailable | NoSuchStream):
                log.warning("loop.waits_for_broker", loop=self._loop, error=str(error))
            else:
                log.warning("loop.waits_for_database", loop=self._loop, error=type(error).__name__)
        self._last_time = now


class Begun(Protocol):
    """Work that the calls of a loop begin and leave running."""

    async def finish(self) -> None:
        """Waits for all of it."""

    def cancel(self) -> None:
        """Ends the remaining work; also called when the drain's deadline has passed."""


class PeriodicLoop:
    """Calls `act` at once while it returns something true, else after `idle` or when `wake` is set.

    `wake` is cleared before each call, so that a wake-up during the call is not lost. `pace` is the pause after a
    call that found work: work that gathers meanwhile is begun together. `begun` is finished before `run` returns.
    """

    def __init__(
        self,
        name: str,
        act: Callable[[], Awaitable[object]],
        *,
        idle: timedelta | Callable[[], Awaitable[timedelta]],
        clock: Clock,
        wake: Wakeup | None = None,
        pace: timedelta = timedelta(0),
        begun: Begun | None = None,
    ) -> None:
        self.name = name
        self._act = act
        self._idle = idle
        self._clock = clock
        self._wake = wake or Wakeup()
        self._pace = pace
        self._begun = begun
        self._outages = Outages(name, clock)

    async def run(self, stopping: asyncio.Event) -> None:
        """Acts until `stopping` is set, then finishes the work that it began."""
        async with self._wake.tied_to(stopping):
            try:
                while not stopping.is_set():
                    self._wake.clear()
                    async with self._outages.waited_out(stopping):
                        await self._act_and_pause(stopping)
                if self._begun is not None:
                    await self._begun.finish()
            finally:
                if self._begun is not None:
                    self._begun.cancel()

    async def _act_and_pause(self, stopping: asyncio.Event) -> None:
        if await self._act():
            if self._pace:
                await self._clock.wait(stopping, self._pace)
            return
        idle = self._idle if isinstance(self._idle, timedelta) else await self._idle()
        if not stopping.is_set():
            await self._clock.wait(self._wake, idle)


async def try_through_outage(
    act: Callable[[], Awaitable[Result]], *, within: timedelta, event: str, **fields: object
) -> Result:
    """Returns the result of `act`; while the database fails it, logs `event` and tries again for as long as `within`.

    Raises the last error when the time is up.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within.total_seconds()
    while True:
        try:
            return await act()
        except Exception as error:  # broad: see Outages.waited_out
            if not is_transient(error) or loop.time() >= deadline:
                raise
        log.warning(event, **fields)
        await asyncio.sleep(OUTAGE_PAUSE.total_seconds())


@contextmanager
def tolerate_outage(event: str, *, level: int = logging.WARNING, **fields: object) -> Iterator[None]:
    """Logs `event` where the database fails the block, and goes on: a lease or a later call replaces the write."""
    try:
        yield
    except Exception as error:  # broad: see Outages.waited_out
        if not is_transient(error):
            raise
        log.log(level, event, error=type(error).__name__, **fields)


def is_outage_or_lost(error: BaseException) -> bool:
    """True for an error after which the same work may succeed: NATS or the database is away, or a transaction lost."""
    return isinstance(error, BrokerUnavailable | NoSuchStream) or is_transient(error)
