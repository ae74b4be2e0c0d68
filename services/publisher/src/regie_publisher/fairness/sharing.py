"""Chooses the work to start: slots are shared between workspaces, and within them between channels and hosts.

The workspace that holds the fewest slots comes first. A slot stays empty only for a workspace that holds few: nobody
waits while all other slots are free, and nobody's load fills them all (ADR 0021).
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from regie_publisher.fairness.due_work import DueWork
from regie_publisher.fairness.hosts import Hosts, Peer


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits on `total` slots: one channel takes up to `per_channel`, one host `host_part` of its window."""

    total: int
    per_channel: int
    host_part: float = 1.0

    @property
    def reserve(self) -> int:
        """Slots that only go to workspaces that hold few."""
        return self.total // 5

    @property
    def few(self) -> int:
        """The number of reserved slots for each of these workspaces."""
        return max(1, self.reserve // 4)

    @property
    def per_host(self) -> int:
        """Slots at one host, of all workspaces together."""
        return self.total - self.reserve

    @property
    def unproven(self) -> int:
        """Slots of a workspace at all hosts together that have yet to answer."""
        return max(1, self.total // 8)

    def window(self, hosts: Hosts, peer: Peer, now: datetime) -> int:
        window = hosts.window(peer, now)
        return max(1, int(window * self.host_part)) if window else 0


@dataclass(slots=True)
class TakenSlots:
    """Counts of taken slots; keys without any are left out. Plain dicts, since every post is counted."""

    total: int = 0
    channels: dict[UUID, int] = field(default_factory=dict)
    workspaces: dict[UUID, int] = field(default_factory=dict)
    hosts: dict[str, int] = field(default_factory=dict)
    peers: dict[Peer, int] = field(default_factory=dict)

    def add(self, due: DueWork) -> None:
        self.total += 1
        for counts, key in self._counts(due):
            counts[key] = counts.get(key, 0) + 1

    def remove(self, due: DueWork) -> None:
        self.total -= 1
        for counts, key in self._counts(due):
            counts[key] -= 1
            if not counts[key]:
                del counts[key]

    def copy(self) -> TakenSlots:
        return TakenSlots(
            self.total, self.channels.copy(), self.workspaces.copy(), self.hosts.copy(), self.peers.copy()
        )

    def _counts(self, due: DueWork) -> tuple[tuple[dict[Any, int], object], ...]:
        return (
            (self.channels, due.channel_id),
            (self.workspaces, due.workspace_id),
            (self.hosts, due.host),
            (self.peers, (due.workspace_id, due.host)),
        )


@dataclass(frozen=True, slots=True)
class Choice:
    """The work to start, the late work to record, and the paused work with the end of its host's pause."""

    taken: Sequence[DueWork]
    late: Sequence[DueWork]
    paused: Mapping[UUID, datetime]


@dataclass(frozen=True, slots=True)
class _PeerState:
    """The state of a host, read once for all work that waits for it."""

    window: int
    proven: bool
    pause: datetime | None


def share_out(
    due: Sequence[DueWork], *, taken_slots: TakenSlots, limits: Limits, hosts: Hosts, now: datetime
) -> Choice:
    """Chooses among due work, which is in the order in which each workspace wants it done."""
    peers = {peer: _peer_state(peer, limits, hosts, now) for peer in {one.peer for one in due}}
    late = [one for one in due if one.late]
    queues: dict[UUID, deque[DueWork]] = {}
    paused: dict[UUID, datetime] = {}
    for one in due:
        if one.late:
            continue
        if (until := peers[one.peer].pause) is not None:
            paused[one.id] = until
        else:
            queues.setdefault(one.workspace_id, deque()).append(one)
    unproven: dict[UUID, int] = {}
    for peer, count in taken_slots.peers.items():
        if not hosts.is_proven(peer):
            unproven[peer[0]] = unproven.get(peer[0], 0) + count
    return Choice(_take(queues, taken_slots.copy(), limits, peers, unproven), late, paused)


def _peer_state(peer: Peer, limits: Limits, hosts: Hosts, now: datetime) -> _PeerState:
    return _PeerState(limits.window(hosts, peer, now), hosts.is_proven(peer), hosts.pause_of(peer, now))


def _take(
    queues: Mapping[UUID, deque[DueWork]],
    taken_slots: TakenSlots,
    limits: Limits,
    peers: Mapping[Peer, _PeerState],
    unproven: dict[UUID, int],
) -> list[DueWork]:
    """Gives one slot at a time to the workspace that holds the fewest, and counts it in both counts."""
    order = [
        (taken_slots.workspaces.get(space, 0), queue[0].next_action_time, space) for space, queue in queues.items()
    ]
    heapq.heapify(order)
    taken: list[DueWork] = []
    while order and taken_slots.total < limits.total:
        holds, _, space = heapq.heappop(order)
        if taken_slots.total >= limits.total - limits.reserve and holds >= limits.few:
            break  # all that follow hold as many
        queue = queues[space]
        one = _next_fitting(queue, taken_slots, limits, peers, unproven.get(space, 0))
        if one is None:
            continue
        taken.append(one)
        taken_slots.add(one)
        if not peers[one.peer].proven:
            unproven[space] = unproven.get(space, 0) + 1
        if queue:
            heapq.heappush(order, (holds + 1, queue[0].next_action_time, space))
    return taken


def _next_fitting(
    queue: deque[DueWork], taken_slots: TakenSlots, limits: Limits, peers: Mapping[Peer, _PeerState], unproven: int
) -> DueWork | None:
    while queue:
        one = queue.popleft()
        peer = one.peer
        state = peers[peer]
        if (
            taken_slots.peers.get(peer, 0) < state.window
            and taken_slots.channels.get(one.channel_id, 0) < limits.per_channel
            and taken_slots.hosts.get(one.host, 0) < limits.per_host
            and (state.proven or unproven < limits.unproven)
        ):
            return one
    return None
