"""The loop that claims pending deliveries and runs their attempts, many at once."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import structlog
from regie_chassis.clock import Clock
from regie_chassis.database import Database, is_transient

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
OUTAGE_PAUSE = timedelta(seconds=1)

log = structlog.get_logger()


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
        self._slots = Slots(limits, hosts, shows_pauses=True)
        self._more_waits = True
        self.wake = self._slots.wake
        """Set when there may be a delivery to claim, or a free slot for one."""

    async def run(self, stopping: asyncio.Event) -> None:
        """Claims until `stopping` is set, then finishes the attempts in flight."""
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
                if not claimed or not self._more_waits:
                    await self._clock.wait(self.wake, POLL)
            await self.finish()
        finally:
            waker.cancel()
            self._slots.cancel()

    async def claim(self) -> int:
        """Claims due deliveries, fairly, and starts their attempts. Returns their number."""
        self.wake.clear()
        if not self._slots.room:
            return 0
        now = self._clock.now()
        async with self._database.transaction() as session:
            due = await find_due(session, slots=self._slots, now=now)
            if not due:
                return 0
            choice = self._slots.share_out(due, now)
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
            self._slots.start(chosen[one.id], self._make(one, chosen[one.id]))
        self._more_waits = not {one.workspace_id for one in due}.issubset(self._slots.full_workspaces())
        return len(claimed)

    async def finish(self) -> None:
        """Waits for all attempts in flight, then for token renewals under way."""
        await self._slots.finish()
        await self._accounts.renewal.drain()

    async def _make(self, delivery: ClaimedDelivery, due: DueWork) -> None:
        outcome = await self._attempts.make(delivery)
        answered = was_answered(outcome) if outcome is not None else None
        if answered:
            self._hosts.answered(due.peer)
        elif answered is False:
            self._hosts.silent(due.peer, self._clock.now(), cause=delivery.id)

    async def _give_back(self, claimed: list[ClaimedDelivery]) -> None:
        try:
            async with self._database.transaction() as session:
                await release(session, claimed, cause=Cause.WORKER, now=self._clock.now())
        except Exception as error:
            if not is_transient(error):
                raise
            log.warning("deliveries.claims_left_to_lease_rescue", count=len(claimed))

    async def _wake_at(self, stopping: asyncio.Event) -> None:
        await stopping.wait()
        self.wake.set()
