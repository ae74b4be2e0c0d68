"""Slots of one kind of work in this process, and the tasks that hold them."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import structlog
from regie_chassis.process.loops import Wakeup

from regie_publisher.fairness.due_work import DueWork
from regie_publisher.fairness.hosts import Hosts, Peer
from regie_publisher.fairness.sharing import Choice, Limits, TakenSlots, share_out

EXTRA_ROWS = 20
"""Rows that are looked up beyond the free slots, in place of those that turn out not to fit."""
MAX_SCAN = 5000
"""Rows of a workspace that a lookup reads to find startable work; work behind as many rows of full hosts waits."""

log = structlog.get_logger()


class Slots:
    """Slots of one kind of work in this process, and the tasks that hold them.

    With `shows_pauses`, the lookup also returns work for silent hosts, so that its timeline can explain the wait.
    """

    def __init__(self, limits: Limits, hosts: Hosts, *, shows_pauses: bool = False) -> None:
        self._shows_pauses = shows_pauses
        self.wake = Wakeup()
        """Set when a slot becomes free."""
        self._limits = limits
        self._hosts = hosts
        self._taken = TakenSlots()
        self.crowded = False
        """True if the last lookup found work that waits for these slots, and no slot is left for it."""
        self._running: dict[asyncio.Task[None], DueWork] = {}

    def lookup_parameters(self, now: datetime, *, limit: int | None = None) -> dict[str, object]:
        """Returns the parameters of a `fair_lookup` for these slots, by default with as many rows as are free."""
        full = self.full_peers(now)
        return {
            "now": now,
            "full_workspaces": self.full_workspaces(),
            "full_channels": self.full_channels(),
            "full_spaces": [workspace_id for workspace_id, _ in full],
            "full_hosts": [host for _, host in full],
            "limit": self.room + EXTRA_ROWS if limit is None else limit,
            "scan": MAX_SCAN,
        }

    @property
    def room(self) -> int:
        """The number of free slots."""
        return max(0, self._limits.total - self._taken.total)

    def share_out(self, due: Sequence[DueWork], now: datetime) -> Choice:
        """Chooses the work to start among due work."""
        return share_out(due, taken_slots=self._taken, limits=self._limits, hosts=self._hosts, now=now)

    def full_workspaces(self) -> list[UUID]:
        """Returns the workspaces that get no further slot now."""
        if self.room > self._limits.reserve:
            return []
        return [key for key, count in self._taken.workspaces.items() if count >= self._limits.few]

    def full_channels(self) -> list[UUID]:
        """Returns the channels that get no further slot now; lookups skip their backlog."""
        return [key for key, count in self._taken.channels.items() if count >= self._limits.per_channel]

    def full_peers(self, now: datetime) -> list[Peer]:
        """Returns the hosts of workspaces that get no further slot now."""
        paused = [] if self._shows_pauses else self._hosts.paused(now)
        return paused + [
            peer
            for peer, count in self._taken.peers.items()
            if count >= self._limits.window(self._hosts, peer, now)
            or self._taken.hosts.get(peer[1], 0) >= self._limits.per_host
        ]

    def note_waiting(self, due: Sequence[DueWork]) -> None:
        """Notes the result of a lookup, once the chosen work has been started."""
        self.crowded = bool(due) and {one.workspace_id for one in due}.issubset(self.full_workspaces())

    def start(self, due: DueWork, work: Coroutine[Any, Any, None]) -> None:
        """Starts the work in a slot of its own."""
        task = asyncio.create_task(work)
        self._running[task] = due
        self._taken.add(due)
        task.add_done_callback(self._end)

    async def finish(self) -> None:
        """Waits for all work that was started."""
        while self._running:
            await asyncio.wait(list(self._running))

    def cancel(self) -> None:
        """Cancels the remaining work after the drain's deadline: expired leases settle it."""
        for task in self._running:
            task.cancel()

    def _end(self, task: asyncio.Task[None]) -> None:
        self._taken.remove(self._running.pop(task))
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("slot.work_failed", exc_info=error)
        self.wake.set()
