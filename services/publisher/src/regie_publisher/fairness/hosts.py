"""Limits the concurrent calls of a workspace to a network's host, by the results of its last calls.

A new host, or one that did not answer lately, gets few calls at once, so that it holds few of the slots that others
wait for. Each workspace has its own record of a host: nobody can spoil a shared host for the others (ADR 0021).
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

FIRST_WINDOW = 8
GROWTH = 8
"""Additional concurrent calls for each answered call."""
SILENT_IN_A_ROW = 5
"""Calls in a row without a usable answer after which the host is paused..."""
SILENT_FOR = 3
"""...if they were made for this many posts or channels: a single retried post has pauses of its own."""
FIRST_PAUSE = timedelta(seconds=5)
MAX_PAUSE = timedelta(minutes=2)
MAX_HOSTS = 10_000

Peer = tuple[UUID, str]
"""A workspace and a host that it calls."""


@dataclass(slots=True)
class _Host:
    window: int
    silent: int = 0
    silent_for: set[UUID] = field(default_factory=set)
    pauses: int = 0
    pause_until: datetime | None = None


class Hosts:
    """The hosts that this process has called. The least recently used ones are forgotten."""

    def __init__(self, *, first_window: int = FIRST_WINDOW, max_window: int = 100) -> None:
        self._first = max(1, min(first_window, max_window))
        self._max = max(1, max_window)
        self._hosts: OrderedDict[Peer, _Host] = OrderedDict()
        self._paused: set[Peer] = set()

    def window(self, peer: Peer, now: datetime) -> int:
        """Returns the number of allowed concurrent calls: none in a pause, and one after it as a probe."""
        host = self._hosts.get(peer)
        if host is None:
            return self._first
        if host.pause_until is None:
            return host.window
        return 0 if now < host.pause_until else 1

    def is_proven(self, peer: Peer) -> bool:
        """True for a host with more answers than silences."""
        host = self._hosts.get(peer)
        return host is not None and host.pause_until is None and host.window > self._first

    def pause_of(self, peer: Peer, now: datetime) -> datetime | None:
        """Returns the end of the host's pause; None if it has none."""
        host = self._hosts.get(peer)
        if host is None or host.pause_until is None or now >= host.pause_until:
            return None
        return host.pause_until

    def paused(self, now: datetime) -> list[Peer]:
        """Returns the paused hosts."""
        return [peer for peer in self._paused if self.pause_of(peer, now) is not None]

    def answered(self, peer: Peer) -> None:
        """Records a call that ended with an answer, also a refusal."""
        host = self._hosts.get(peer) or self._host(peer)
        if not host.silent and host.window >= self._max:
            return  # the usual case: nothing changes
        if host.pause_until is not None:
            host.window, host.pause_until = self._first, None
            self._paused.discard(peer)
        host.silent = host.pauses = 0
        host.silent_for.clear()
        host.window = min(self._max, host.window + GROWTH)

    def silent(self, peer: Peer, now: datetime, *, cause: UUID) -> None:
        """Records a call without a usable answer; `cause` is the delivery or channel that it was made for."""
        host = self._host(peer)
        host.silent += 1
        if len(host.silent_for) < SILENT_FOR:
            host.silent_for.add(cause)
        host.window = max(1, host.window // 2)
        enough = host.silent >= SILENT_IN_A_ROW and len(host.silent_for) >= SILENT_FOR
        if not enough or self.pause_of(peer, now) is not None:
            return
        # Calls that were under way when the pause began must not make it longer.
        host.pause_until = now + min(MAX_PAUSE, FIRST_PAUSE * 2**host.pauses)
        host.pauses = min(host.pauses + 1, 10)
        self._paused.add(peer)

    def _host(self, peer: Peer) -> _Host:
        host = self._hosts.get(peer)
        if host is None:
            host = self._hosts[peer] = _Host(self._first)
            if len(self._hosts) > MAX_HOSTS:
                forgotten, _ = self._hosts.popitem(last=False)
                self._paused.discard(forgotten)
        self._hosts.move_to_end(peer)
        return host
