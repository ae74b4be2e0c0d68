"""Who is served next: places that are shared between workspaces, and within them between channels and hosts.

The workspace that holds the fewest places comes first. A place is left empty only for somebody who has few: nobody
waits while all the others' places are free, and nobody's load fills them all (ADR 0021).
"""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import structlog
from regie_chassis.loops import Wakeup

from regie_publisher.hosts import Hosts, Peer

MORE = 20
"""Rows that are looked up beyond the free places, for those that turn out not to fit."""
SCAN = 5000
"""Rows of a workspace that are looked through for one that can be begun: behind as many at full hosts, it waits."""

log = structlog.get_logger()


class Due(NamedTuple):
    """Work that waits. `late` work takes no place: it only has to be written down that it is not done."""

    id: UUID
    workspace_id: UUID
    channel_id: UUID
    host: str
    act_time: datetime
    late: bool = False

    @property
    def peer(self) -> Peer:
        return self.workspace_id, self.host


@dataclass(frozen=True, slots=True)
class Limits:
    """`total` places, of which one channel takes up to `per_channel` and one host `host_part` of its window."""

    total: int
    per_channel: int
    host_part: float = 1.0

    @property
    def reserve(self) -> int:
        """Places that only go to workspaces that hold few."""
        return self.total // 5

    @property
    def few(self) -> int:
        """So many does each of them get of these."""
        return max(1, self.reserve // 4)

    @property
    def per_host(self) -> int:
        """Places at one host, of all workspaces together."""
        return self.total - self.reserve

    @property
    def unproven(self) -> int:
        """Places of a workspace at hosts that have yet to answer, however many names they have."""
        return max(1, self.total // 8)

    def window(self, hosts: Hosts, peer: Peer, now: datetime) -> int:
        window = hosts.window(peer, now)
        return max(1, int(window * self.host_part)) if window else 0


@dataclass(slots=True)
class Held:
    """How many places are taken, by whom; who holds none is not named. Counted for every post, so in plain dicts."""

    total: int = 0
    channels: dict[UUID, int] = field(default_factory=dict)
    workspaces: dict[UUID, int] = field(default_factory=dict)
    hosts: dict[str, int] = field(default_factory=dict)
    peers: dict[Peer, int] = field(default_factory=dict)

    def add(self, due: Due) -> None:
        self.total += 1
        for counts, key in self._counts(due):
            counts[key] = counts.get(key, 0) + 1

    def remove(self, due: Due) -> None:
        self.total -= 1
        for counts, key in self._counts(due):
            counts[key] -= 1
            if not counts[key]:
                del counts[key]

    def copy(self) -> Held:
        return Held(self.total, self.channels.copy(), self.workspaces.copy(), self.hosts.copy(), self.peers.copy())

    def _counts(self, due: Due) -> tuple[tuple[dict[Any, int], object], ...]:
        return (
            (self.channels, due.channel_id),
            (self.workspaces, due.workspace_id),
            (self.hosts, due.host),
            (self.peers, (due.workspace_id, due.host)),
        )


@dataclass(frozen=True, slots=True)
class Choice:
    """What is begun, what is only written down, and what waits until its host's pause is over."""

    taken: Sequence[Due]
    late: Sequence[Due]
    paused: Mapping[UUID, datetime]


@dataclass(frozen=True, slots=True)
class _Standing:
    """What is known of a host, read once for all that waits for it."""

    window: int
    proven: bool
    pause: datetime | None


def share_out(due: Sequence[Due], *, held: Held, limits: Limits, hosts: Hosts, now: datetime) -> Choice:
    """Chooses among what waits. `due` is in the order in which each workspace wants it done."""
    peers = {peer: _standing(peer, limits, hosts, now) for peer in {one.peer for one in due}}
    late = [one for one in due if one.late]
    queues: dict[UUID, deque[Due]] = {}
    paused: dict[UUID, datetime] = {}
    for one in due:
        if one.late:
            continue
        if (until := peers[one.peer].pause) is not None:
            paused[one.id] = until
        else:
            queues.setdefault(one.workspace_id, deque()).append(one)
    unproven: dict[UUID, int] = {}
    for peer, count in held.peers.items():
        if not hosts.is_proven(peer):
            unproven[peer[0]] = unproven.get(peer[0], 0) + count
    return Choice(_take(queues, held.copy(), limits, peers, unproven), late, paused)


def _standing(peer: Peer, limits: Limits, hosts: Hosts, now: datetime) -> _Standing:
    return _Standing(limits.window(hosts, peer, now), hosts.is_proven(peer), hosts.pause_of(peer, now))


def _take(
    queues: Mapping[UUID, deque[Due]],
    held: Held,
    limits: Limits,
    peers: Mapping[Peer, _Standing],
    unproven: dict[UUID, int],
) -> list[Due]:
    """Gives a place at a time to the workspace that holds the fewest, and notes it in `held` and `unproven`."""
    order = [(held.workspaces.get(space, 0), queue[0].act_time, space) for space, queue in queues.items()]
    heapq.heapify(order)
    taken: list[Due] = []
    while order and held.total < limits.total:
        holds, _, space = heapq.heappop(order)
        if held.total >= limits.total - limits.reserve and holds >= limits.few:
            break  # all that follow hold as many
        queue = queues[space]
        one = _next_fitting(queue, held, limits, peers, unproven.get(space, 0))
        if one is None:
            continue
        taken.append(one)
        held.add(one)
        if not peers[one.peer].proven:
            unproven[space] = unproven.get(space, 0) + 1
        if queue:
            heapq.heappush(order, (holds + 1, queue[0].act_time, space))
    return taken


def _next_fitting(
    queue: deque[Due], held: Held, limits: Limits, peers: Mapping[Peer, _Standing], unproven: int
) -> Due | None:
    while queue:
        one = queue.popleft()
        peer = one.peer
        standing = peers[peer]
        if (
            held.peers.get(peer, 0) < standing.window
            and held.channels.get(one.channel_id, 0) < limits.per_channel
            and held.hosts.get(one.host, 0) < limits.per_host
            and (standing.proven or unproven < limits.unproven)
        ):
            return one
    return None


def due_columns(slots: Slots, now: datetime) -> dict[str, object]:
    """Returns the parameters of a statement that looks for what is due, of each workspace as much as may be begun."""
    full = slots.full_peers(now)
    return {
        "now": now,
        "full_workspaces": slots.full_workspaces(),
        "full_channels": slots.full_channels(),
        "full_spaces": [workspace_id for workspace_id, _ in full],
        "full_hosts": [host for _, host in full],
        "most": slots.room + MORE,
        "scan": SCAN,
    }


def due_of(row: Any) -> Due:
    """Returns a row of such a statement, which names its columns in the order of `Due`."""
    return Due(*row)


class Slots:
    """Places of one kind of work in this process, and the tasks that take them.

    With `says_pauses`, work whose host is silent is looked up all the same, so that it can be said why it waits.
    """

    def __init__(self, limits: Limits, hosts: Hosts, *, says_pauses: bool = False) -> None:
        self._says_pauses = says_pauses
        self.wake = Wakeup()
        """Set when a place becomes free."""
        self._limits = limits
        self._hosts = hosts
        self._held = Held()
        self._running: dict[asyncio.Task[None], Due] = {}

    @property
    def room(self) -> int:
        """How many places are free, for whoever they are."""
        return max(0, self._limits.total - self._held.total)

    def share_out(self, due: Sequence[Due], now: datetime) -> Choice:
        """Chooses what to begin among what waits."""
        return share_out(due, held=self._held, limits=self._limits, hosts=self._hosts, now=now)

    def full_workspaces(self) -> list[UUID]:
        """Workspaces that get no further place now."""
        if self.room > self._limits.reserve:
            return []
        return [key for key, count in self._held.workspaces.items() if count >= self._limits.few]

    def full_channels(self) -> list[UUID]:
        """Channels that get no further place now; their backlog is not looked at."""
        return [key for key, count in self._held.channels.items() if count >= self._limits.per_channel]

    def full_peers(self, now: datetime) -> list[Peer]:
        """The same of a workspace's hosts."""
        paused = [] if self._says_pauses else self._hosts.paused(now)
        return paused + [
            peer
            for peer, count in self._held.peers.items()
            if count >= self._limits.window(self._hosts, peer, now)
            or self._held.hosts.get(peer[1], 0) >= self._limits.per_host
        ]

    def begin(self, due: Due, work: Coroutine[Any, Any, None]) -> None:
        """Starts the work in a place of its own."""
        task = asyncio.create_task(work)
        self._running[task] = due
        self._held.add(due)
        task.add_done_callback(self._end)

    async def finish(self) -> None:
        """Waits for everything that was begun."""
        while self._running:
            await asyncio.wait(list(self._running))

    def cancel(self) -> None:
        """Ends what is left, past the drain's deadline: leases settle it."""
        for task in self._running:
            task.cancel()

    def _end(self, task: asyncio.Task[None]) -> None:
        self._held.remove(self._running.pop(task))
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("slot.work_failed", exc_info=error)
        self.wake.set()
