"""How many calls a workspace may have under way at a network's host, judged by how the last ones ended.

A host that is new, or that did not answer lately, gets few calls at once: it holds few of the places that others wait
for. What one workspace learns counts for itself alone: nobody can spoil a shared host for the others (ADR 0021).
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

FIRST_WINDOW = 8
GROWTH = 8
"""More calls at once, for each that was answered."""
SILENT_IN_A_ROW = 5
"""Calls without a usable answer, and no more are begun for a while..."""
SILENT_FOR = 3
"""...where they were made for so many posts: one that is tried again and again has pauses of its own."""
FIRST_PAUSE = timedelta(seconds=5)
LONGEST_PAUSE = timedelta(minutes=2)
REMEMBERED = 10_000

Peer = tuple[UUID, str]
"""A workspace and the host of a network that it calls."""


@dataclass(slots=True)
class _Host:
    window: int
    silent: int = 0
    silent_for: set[UUID] = field(default_factory=set)
    pauses: int = 0
    pause_until: datetime | None = None


class Hosts:
    """What this process knows of hosts. Forgets the least recently used ones."""

    def __init__(self, *, first_window: int = FIRST_WINDOW, max_window: int = 100) -> None:
        self._first = max(1, min(first_window, max_window))
        self._max = max(1, max_window)
        self._hosts: OrderedDict[Peer, _Host] = OrderedDict()
        self._paused: set[Peer] = set()

    def window(self, peer: Peer, now: datetime) -> int:
        """Returns how many calls may be under way: none in a pause, and one after it, to see."""
        host = self._hosts.get(peer)
        if host is None:
            return self._first
        if host.pause_until is None:
            return host.window
        return 0 if now < host.pause_until else 1

    def is_proven(self, peer: Peer) -> bool:
        """True for a host that has answered more often than it was silent."""
        host = self._hosts.get(peer)
        return host is not None and host.pause_until is None and host.window > self._first

    def pause_of(self, peer: Peer, now: datetime) -> datetime | None:
        """Returns until when no call is begun, None where one may be."""
        host = self._hosts.get(peer)
        if host is None or host.pause_until is None or now >= host.pause_until:
            return None
        return host.pause_until

    def paused(self, now: datetime) -> list[Peer]:
        """Returns those of whom `pause_of` tells a time."""
        return [peer for peer in self._paused if self.pause_of(peer, now) is not None]

    def answered(self, peer: Peer) -> None:
        """Notes a call that ended with an answer, whatever it said."""
        host = self._hosts.get(peer) or self._host(peer)
        if not host.silent and host.window >= self._max:
            return  # nothing to learn, as is usual
        if host.pause_until is not None:
            host.window, host.pause_until = self._first, None
            self._paused.discard(peer)
        host.silent = host.pauses = 0
        host.silent_for.clear()
        host.window = min(self._max, host.window + GROWTH)

    def silent(self, peer: Peer, now: datetime, *, cause: UUID) -> None:
        """Notes a call that ended without a usable answer, and for which delivery or channel it was made."""
        host = self._host(peer)
        host.silent += 1
        if len(host.silent_for) < SILENT_FOR:
            host.silent_for.add(cause)
        host.window = max(1, host.window // 2)
        enough = host.silent >= SILENT_IN_A_ROW and len(host.silent_for) >= SILENT_FOR
        if not enough or self.pause_of(peer, now) is not None:
            return
        # The calls that were under way when the pause began end one after the other; they do not make it longer.
        host.pause_until = now + min(LONGEST_PAUSE, FIRST_PAUSE * 2**host.pauses)
        host.pauses = min(host.pauses + 1, 10)
        self._paused.add(peer)

    def _host(self, peer: Peer) -> _Host:
        host = self._hosts.get(peer)
        if host is None:
            host = self._hosts[peer] = _Host(self._first)
            if len(self._hosts) > REMEMBERED:
                forgotten, _ = self._hosts.popitem(last=False)
                self._paused.discard(forgotten)
        self._hosts.move_to_end(peer)
        return host
