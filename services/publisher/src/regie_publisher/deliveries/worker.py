"""The loop that claims pending deliveries and runs attempts, many at once."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import timedelta
from uuid import UUID

import structlog
from regie_chassis.clock import Clock
from regie_chassis.database import Database, is_transient

from regie_publisher.accounts import Accounts
from regie_publisher.deliveries.attempts import Attempts
from regie_publisher.deliveries.claims import Capacity, claim_pending, release
from regie_publisher.deliveries.delivery import Held

CLAIM = 200
POLL = timedelta(milliseconds=200)
OUTAGE_PAUSE = timedelta(seconds=1)

log = structlog.get_logger()


class Worker:
    """Claims and delivers. Any number of replicas; each delivery is in the hands of one."""

    name = "deliveries"

    def __init__(
        self,
        database: Database,
        attempts: Attempts,
        accounts: Accounts,
        clock: Clock,
        *,
        worker: str,
        in_flight: int,
        channel_in_flight: int,
    ) -> None:
        self.wake = asyncio.Event()
        """Set when there may be something to claim, or room to claim it into."""
        self._database = database
        self._attempts = attempts
        self._accounts = accounts
        self._clock = clock
        self._worker = worker
        self._in_flight = in_flight
        self._channel_in_flight = channel_in_flight
        self._running: dict[asyncio.Task[None], Held] = {}
        self._held: Counter[UUID] = Counter()

    async def run(self, stopping: asyncio.Event) -> None:
        """Claims until told to stop, then finishes what is in flight."""
        waker = asyncio.create_task(self._wake_at(stopping))
        try:
            while not stopping.is_set():
                try:
                    claimed = await self.claim()
                except Exception as error:
                    if not is_transient(error):
                        raise
                    log.warning("deliveries.waits_for_database", error=type(error).__name__)
                    await self._clock.wait(stopping, OUTAGE_PAUSE)
                    continue
                if not claimed:
                    await self._clock.wait(self.wake, POLL)
            await self.finish()
        finally:
            waker.cancel()
            for task in self._running:
                task.cancel()  # past the drain's deadline: leases settle what is left

    async def claim(self) -> int:
        """Takes what is due and begins its attempts. Returns how many."""
        self.wake.clear()
        room = min(self._in_flight - len(self._running), CLAIM)
        if room <= 0:
            return 0
        async with self._database.transaction() as session:
            held = await claim_pending(
                session,
                worker=self._worker,
                capacity=Capacity(room, self._channel_in_flight, dict(self._held)),
                now=self._clock.now(),
            )
        if not held:
            return 0
        try:
            await self._accounts.open([one.channel_id for one in held])
        except Exception:
            await self._give_back(held)
            raise
        for one in held:
            self._begin(one)
        return len(held)

    async def finish(self) -> None:
        """Waits for everything in flight, then for tokens whose renewal is on its way."""
        while self._running:
            await asyncio.wait(list(self._running))
        await self._accounts.drain()

    def _begin(self, held: Held) -> None:
        task = asyncio.create_task(self._attempts.make(held))
        self._running[task] = held
        self._held[held.channel_id] += 1
        task.add_done_callback(self._end)

    def _end(self, task: asyncio.Task[None]) -> None:
        held = self._running.pop(task)
        self._held[held.channel_id] -= 1
        if self._held[held.channel_id] <= 0:
            del self._held[held.channel_id]
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("delivery.attempt_failed", exc_info=error)
        self.wake.set()

    async def _give_back(self, held: list[Held]) -> None:
        try:
            async with self._database.transaction() as session:
                await release(session, held, cause="worker", now=self._clock.now())
        except Exception as error:
            if not is_transient(error):
                raise
            log.warning("deliveries.claims_left_to_sweeper", count=len(held))

    async def _wake_at(self, stopping: asyncio.Event) -> None:
        await stopping.wait()
        self.wake.set()
