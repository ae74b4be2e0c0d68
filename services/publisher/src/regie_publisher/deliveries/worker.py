"""The loop that claims pending deliveries and runs their attempts, many at once."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

from regie_chassis.data.database import Database
from regie_chassis.process.clock import Clock
from regie_chassis.process.loops import PeriodicLoop, tolerate_outage

from regie_publisher.channels.accounts import Accounts
from regie_publisher.deliveries.attempts import Attempts
from regie_publisher.deliveries.claims import claim_pending, find_due, postpone_paused, release
from regie_publisher.deliveries.decisions import was_answered
from regie_publisher.deliveries.delivery import Cause, ClaimedDelivery
from regie_publisher.fairness.due_work import DueWork
from regie_publisher.fairness.hosts import Hosts
from regie_publisher.fairness.sharing import Limits
from regie_publisher.fairness.slots import Slots

POLL = timedelta(milliseconds=200)
RETRY = timedelta(milliseconds=10)
BURST = 32
"""Deliveries of one claim that show a burst: slots turn over fast, and more is due than they hold."""
BURST_GAP = timedelta(milliseconds=200)
"""The longest time between two such claims of one burst."""


class Worker:
    """Claims deliveries and runs their attempts. Any number of replicas; each delivery is claimed by one."""

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
        limits: Limits,
    ) -> None:
        self._database = database
        self._attempts = attempts
        self._accounts = accounts
        self._hosts = hosts
        self._clock = clock
        self._worker = worker
        self.slots = Slots(limits, hosts, shows_pauses=True)
        self.wake = self.slots.wake
        """Set when there may be a delivery to claim, or a free slot for one."""
        self.calm = asyncio.Event()
        """Set unless a burst is leaving."""
        self.calm.set()
        self._burst_end = clock.now()

    async def run(self, stopping: asyncio.Event) -> None:
        """Claims until `stopping` is set, then finishes the attempts in flight."""
        loop = PeriodicLoop(self.name, self._claim_more, idle=POLL, clock=self._clock, wake=self.wake, begun=self)
        try:
            await loop.run(stopping)
        finally:
            self.calm.set()

    async def _claim_more(self) -> bool:
        return bool(await self.claim()) and not self.slots.crowded

    async def claim(self) -> int:
        """Claims due deliveries, fairly, and starts their attempts. Returns their number."""
        self.wake.clear()
        if not self.slots.room:
            return 0
        now = self._clock.now()
        count = await self._claim(now)
        if count >= BURST:
            self.calm.clear()
            self._burst_end = now + BURST_GAP
        elif not count or now >= self._burst_end:
            self.calm.set()
        return count

    async def _claim(self, now: datetime) -> int:
        async with self._database.transaction() as session:
            due = await find_due(session, slots=self.slots, now=now)
            if not due:
                self.slots.note_waiting(due)
                return 0
            choice = self.slots.share_out(due, now)
            await postpone_paused(session, choice, due, now=now)
            chosen = {one.id: one for one in (*choice.taken, *choice.late)}
            claimed = (
                await claim_pending(session, list(chosen.values()), worker=self._worker, now=now) if chosen else []
            )
        if choice.taken and not claimed:
            # Another replica was quicker, and there may be more as soon as it has committed.
            asyncio.get_running_loop().call_later(RETRY.total_seconds(), self.wake.set)
        if not claimed:
            return 0
        try:
            await self._accounts.open([one.channel_id for one in claimed])
        except Exception:
            await self._give_back(claimed)
            raise
        for one in claimed:
            self.slots.start(chosen[one.id], self._make(one, chosen[one.id]))
        self.slots.note_waiting(due)
        return len(claimed)

    async def finish(self) -> None:
        """Waits for all attempts in flight, then for token renewals under way."""
        await self.slots.finish()
        await self._accounts.renewal.drain()

    def cancel(self) -> None:
        """Cancels the attempts that are left after the drain's deadline: their leases expire."""
        self.slots.cancel()

    async def _make(self, delivery: ClaimedDelivery, due: DueWork) -> None:
        outcome = await self._attempts.make(delivery)
        answered = was_answered(outcome) if outcome is not None else None
        if answered:
            self._hosts.answered(due.peer)
        elif answered is False:
            self._hosts.silent(due.peer, self._clock.now(), cause=delivery.id)

    async def _give_back(self, claimed: list[ClaimedDelivery]) -> None:
        with tolerate_outage("deliveries.claims_left_to_lease_rescue", count=len(claimed)):
            async with self._database.transaction() as session:
                await release(session, claimed, cause=Cause.WORKER, now=self._clock.now())
