"""The life of a process: parts start in order, loops run, SIGTERM drains everything within a deadline."""

from __future__ import annotations

import asyncio
import gc
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Protocol

import structlog
import uvloop

from regie_chassis.boundary.telemetry import meter

RESTART_PAUSE = timedelta(seconds=1)  # doubled with each failure of a loop
MAX_PAUSE = timedelta(seconds=30)
STEADY = timedelta(minutes=1)  # a loop that ran for so long has recovered
COLLECT_AFTER = 20_000  # new objects; Python's own 700 to 2,000 makes a burst collect all the time

log = structlog.get_logger()
_failures = meter().create_counter(
    "regie.loop.failures", unit="{failure}", description="Loops that ended with an error and were started again"
)


class Loop(Protocol):
    """Work that goes on until `stopping` is set, then finishes its current step and returns."""

    name: str

    async def run(self, stopping: asyncio.Event) -> None: ...


class Part(Protocol):
    """Something that is open while the process runs, as a server or a connection."""

    name: str

    async def start(self) -> None: ...

    async def stop(self) -> None: ...


class LoopFailed(Exception):
    """A loop returned by itself, which it never should; the process exits so that its supervisor starts it again."""


class App:
    """A service as one object: starts its parts in order, runs its loops, stops loops first and parts in reverse.

    A loop that raises is started again after a pause, for as long as the process runs: one row that breaks a loop
    must not end the work of the process's other loops.
    """

    def __init__(
        self,
        name: str,
        *,
        parts: Sequence[Part],
        loops: Sequence[Loop],
        drain: timedelta,
        restart_pause: timedelta = RESTART_PAUSE,
    ) -> None:
        self.name = name
        self._parts = parts
        self._loops = loops
        self._drain = drain
        self._restart_pause = restart_pause
        self._started: list[Part] = []
        self._tasks: dict[asyncio.Task[None], str] = {}
        self._stopping = asyncio.Event()

    async def __aenter__(self) -> App:
        try:
            for part in self._parts:
                await part.start()
                self._started.append(part)
        except BaseException:
            await self._stop_parts()
            raise
        for loop in self._loops:
            task = asyncio.create_task(self._keep_running(loop), name=f"{self.name}: {loop.name}")
            self._tasks[task] = loop.name
        return self

    async def _keep_running(self, loop: Loop) -> None:
        clock = asyncio.get_running_loop()
        pause = self._restart_pause
        while True:
            begin = clock.time()
            try:
                return await loop.run(self._stopping)
            except Exception as error:  # broad: whatever ends a loop, it has to go on
                if self._stopping.is_set():
                    raise
                log.error("runtime.loop_failed", loop=loop.name, exc_info=error)
                _failures.add(1, {"loop": loop.name})
            if clock.time() - begin > STEADY.total_seconds():
                pause = self._restart_pause
            with suppress(TimeoutError):
                async with asyncio.timeout(pause.total_seconds()):
                    await self._stopping.wait()
            if self._stopping.is_set():
                return None
            pause = min(pause * 2, MAX_PAUSE)

    async def __aexit__(self, *_: object) -> None:
        self._stopping.set()
        if self._tasks:
            _finished, late = await asyncio.wait(self._tasks, timeout=self._drain.total_seconds())
            for task in late:
                log.error("runtime.drain_deadline_passed", loop=self._tasks[task])
                task.cancel()
            results = await asyncio.gather(*self._tasks, return_exceptions=True)
            for task, result in zip(self._tasks, results, strict=True):
                if isinstance(result, Exception):
                    log.error("runtime.loop_failed", loop=self._tasks[task], exc_info=result)
        await self._stop_parts()

    async def _stop_parts(self) -> None:
        for part in reversed(self._started):
            try:
                async with asyncio.timeout(self._drain.total_seconds()):
                    await part.stop()
            except TimeoutError:
                log.error("runtime.drain_deadline_passed", part=part.name)
            except Exception as error:  # broad: the parts before it still have to be stopped
                log.error("runtime.part_failed_to_stop", part=part.name, exc_info=error)
        self._started.clear()

    async def wait(self, until: asyncio.Event) -> None:
        """Waits for the event; raises LoopFailed when a loop returns before."""
        waiter = asyncio.create_task(until.wait())
        try:
            await asyncio.wait([waiter, *self._tasks], return_when=asyncio.FIRST_COMPLETED)
            for task, name in self._tasks.items():
                if task.done() and not until.is_set():
                    raise LoopFailed(f"the loop {name!r} of {self.name} ended") from task.exception()
        finally:
            waiter.cancel()


def _quiet_collector() -> None:
    """Keeps the objects of the start out of every collection, and collects less often: requests leave few cycles."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER)


async def _serve(app: App) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with app:
        _quiet_collector()
        log.info("runtime.started", app=app.name)
        await app.wait(stop)
        log.info("runtime.stopping", app=app.name)


def run(app_factory: Callable[[], App]) -> None:
    """Runs the app that `app_factory()` builds inside the event loop, until SIGTERM or SIGINT."""

    async def main() -> None:
        await _serve(app_factory())

    uvloop.run(main())
