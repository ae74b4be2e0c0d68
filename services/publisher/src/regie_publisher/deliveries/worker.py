"""The loop that claims pending deliveries and runs attempts, many at once."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import structlog
from regie_chassis.clock import Clock
from regie_chassis.database import Database
from regie_chassis.loops import PeriodicLoop, tolerate_outage

from regie_publisher.accounts import Accounts
from regie_publisher.deliveries.attempts import Attempts
from regie_publisher.deliveries.claims import claim_pending, find_due, put_off, release
from regie_publisher.deliveries.delivery import Cause, Held
from regie_publisher.deliveries.judging import was_answered
from regie_publisher.hosts import Hosts
from regie_publisher.shares import Due, Limits, Slots

POLL = timedelta(milliseconds=200)
RETRY = timedelta(milliseconds=10)

log = structlog.get_logger()


class Worker:
    """Claims and delivers. Any number of replicas; each delivery is in the hands of one."""

    name = "deliveries"

    def __init__(
        self,
        database: Database,
        attempts: Attempts,
        accounts: Accounts,
        hosts: Hosts,
        clock: Clock,
        *,
        worker: str,
        in_flight: int,
        channel_in_flight: int,
    ) -> None:
        self._database = database
        self._attempts = attempts
        self._accounts = accounts
        self._hosts = hosts
        self._clock = clock
        self._worker = worker
        self._slots = Slots(Limits(in_flight, channel_in_flight), hosts, says_pauses=True)
        self._more_waits = True
        self.wake = self._slots.wake
        """Set when there may be something to claim, or room to claim it into."""

    async def run(self, stopping: asyncio.Event) -> None:
        """Claims until told to stop, then finishes what is in flight."""
        loop = PeriodicLoop(self.name, self._claim_more, idle=POLL, clock=self._clock, wake=self.wake, begun=self)
        await loop.run(stopping)

    async def _claim_more(self) -> bool:
        return bool(await self.claim()) and self._more_waits

    async def claim(self) -> int:
        """Takes what is due, fairly, and begins its attempts. Returns how many."""
        self.wake.clear()
        if not self._slots.room:
            return 0
        now = self._clock.now()
        async with self._database.transaction() as session:
            due = await find_due(session, slots=self._slots, now=now)
            if not due:
                return 0
            choice = self._slots.share_out(due, now)
            await put_off(session, choice, due, now=now)
            chosen = {one.id: one for one in (*choice.taken, *choice.late)}
            held = await claim_pending(session, list(chosen.values()), worker=self._worker, now=now) if chosen else []
        if choice.taken and not held:
            # Another replica was quicker, and there may be more as soon as it has committed.
            asyncio.get_running_loop().call_later(RETRY.total_seconds(), self.wake.set)
        if not held:
            return 0
        try:
            await self._accounts.open([one.channel_id for one in held])
        except Exception:
            await self._give_back(held)
            raise
        for one in held:
            self._slots.begin(chosen[one.id], self._make(one, chosen[one.id]))
        self._more_waits = not {one.workspace_id for one in due}.issubset(self._slots.full_workspaces())
        return len(held)

    async def finish(self) -> None:
        """Waits for everything in flight, then for tokens whose renewal is on its way."""
        await self._slots.finish()
        await self._accounts.drain()

    def cancel(self) -> None:
        """Ends what is left, past the drain's deadline: leases settle it."""
        self._slots.cancel()

    async def _make(self, held: Held, due: Due) -> None:
        outcome = await self._attempts.make(held)
        answered = was_answered(outcome) if outcome is not None else None
        if answered:
            self._hosts.answered(due.peer)
        elif answered is False:
            self._hosts.silent(due.peer, self._clock.now(), cause=held.id)

    async def _give_back(self, held: list[Held]) -> None:
        with tolerate_outage("deliveries.claims_left_to_sweeper", count=len(held)):
            async with self._database.transaction() as session:
                await release(session, held, cause=Cause.WORKER, now=self._clock.now())
