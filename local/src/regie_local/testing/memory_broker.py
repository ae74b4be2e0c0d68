"""The broker's contract in memory, for tests of one service alone."""

from __future__ import annotations

import asyncio
import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from regie_chassis.events.messaging import (
    MSG_ID,
    Ack,
    BrokerUnavailable,
    ConsumerSpec,
    Envelope,
    NoSuchStream,
    Received,
    StreamSpec,
    StreamState,
    Unsendable,
    wire_size,
)
from regie_chassis.process.clock import Clock, SystemClock

MAX_PAYLOAD = 1024 * 1024  # bytes; NATS's default


@dataclass(slots=True)
class _Stream:
    spec: StreamSpec
    create_time: datetime
    messages: list[Envelope] = field(default_factory=list)
    seen: dict[str, tuple[int, datetime]] = field(default_factory=dict)


@dataclass(slots=True)
class _Group:
    """A durable consumer: its position, and when each open message may be delivered (again)."""

    spec: ConsumerSpec
    next_seq: int = 1
    due: dict[int, datetime] = field(default_factory=dict)
    deliveries: dict[int, int] = field(default_factory=dict)


class MemoryBroker:
    """Streams in memory. `down` plays an outage."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._streams: dict[str, _Stream] = {}
        self._groups: dict[tuple[str, str], _Group] = {}
        self._arrived = asyncio.Event()
        self.down = False
        self.max_payload = MAX_PAYLOAD

    def _check(self) -> None:
        if self.down:
            raise BrokerUnavailable("the broker is down in this test")

    def _find(self, name: str) -> _Stream:
        self._check()
        if name not in self._streams:
            raise NoSuchStream(f"stream {name} does not exist yet")
        return self._streams[name]

    async def ensure_stream(self, spec: StreamSpec) -> None:
        self._check()
        stream = self._streams.setdefault(spec.name, _Stream(spec, self._clock.now()))
        stream.spec = spec

    async def stream_state(self, name: str) -> StreamState:
        stream = self._find(name)
        return StreamState(len(stream.messages), stream.create_time)

    async def publish(self, envelopes: Sequence[Envelope]) -> list[Ack]:
        self._check()
        return [self._unsendable(envelope) or self._store(envelope) for envelope in envelopes]

    def _unsendable(self, envelope: Envelope) -> Unsendable | None:
        size = wire_size(envelope.payload, {MSG_ID: envelope.id, **envelope.headers})
        return Unsendable(f"{size:,} bytes of at most {self.max_payload:,}") if size > self.max_payload else None

    def _store(self, envelope: Envelope) -> int | None:
        for stream in self._streams.values():
            if any(fnmatch.fnmatchcase(envelope.subject, _glob(subject)) for subject in stream.spec.subjects):
                known = stream.seen.get(envelope.id)
                now = self._clock.now()
                if known and now < known[1] + stream.spec.duplicate_window:
                    return known[0]
                stream.messages.append(envelope)
                stream.seen[envelope.id] = (len(stream.messages), now)
                self._arrived.set()
                return len(stream.messages)
        return None

    async def ensure_consumer(self, spec: ConsumerSpec) -> None:
        self._find(spec.stream)
        group = self._groups.setdefault((spec.stream, spec.name), _Group(spec))
        group.spec = spec

    async def fetch(self, spec: ConsumerSpec, limit: int, timeout: timedelta) -> list[Received]:
        await self.ensure_consumer(spec)
        found = self._take(spec, limit)
        if not found:
            self._arrived.clear()
            await SystemClock().wait(self._arrived, min(timeout, timedelta(seconds=0.05)))
            found = self._take(spec, limit)
        return found

    def _take(self, spec: ConsumerSpec, limit: int) -> list[Received]:
        stream, group, now = self._find(spec.stream), self._groups[spec.stream, spec.name], self._clock.now()
        while group.next_seq <= len(stream.messages):
            subject = stream.messages[group.next_seq - 1].subject
            if any(fnmatch.fnmatchcase(subject, _glob(wanted)) for wanted in spec.subjects):
                group.due[group.next_seq] = now
            group.next_seq += 1
        ready = sorted(seq for seq, due in group.due.items() if due <= now)[:limit]
        for seq in ready:
            group.due[seq] = now + spec.ack_wait
            group.deliveries[seq] = group.deliveries.get(seq, 0) + 1
        return [Received(stream.messages[seq - 1], seq, group.deliveries[seq], (group, seq)) for seq in ready]

    async def ack(self, received: Sequence[Received]) -> None:
        self._check()
        for one in received:
            group, seq = _handle(one)
            group.due.pop(seq, None)

    async def nak(self, received: Sequence[Received], delay: timedelta) -> None:
        self._check()
        for one in received:
            group, seq = _handle(one)
            group.due[seq] = self._clock.now() + delay

    async def pending(self, spec: ConsumerSpec) -> int:
        self._check()
        group = self._groups.get((spec.stream, spec.name))
        if group is None:
            return 0
        waiting = self._streams[spec.stream].messages[group.next_seq - 1 :]
        matching = [m for m in waiting if any(fnmatch.fnmatchcase(m.subject, _glob(s)) for s in spec.subjects)]
        return len(group.due) + len(matching)

    async def close(self) -> None:
        """Nothing is open."""

    def lose(self, stream: str, *, keep: int) -> None:
        """Plays a power cut: the stream forgets everything after its first `keep` messages."""
        found = self._streams[stream]
        found.messages = found.messages[:keep]
        found.seen = {key: value for key, value in found.seen.items() if value[0] <= keep}
        for group in self._groups.values():
            if group.spec.stream == stream:
                group.next_seq = min(group.next_seq, keep + 1)
                group.due = {seq: due for seq, due in group.due.items() if seq <= keep}


def _handle(received: Received) -> tuple[_Group, int]:
    token = received.token
    assert isinstance(token, tuple)
    group, seq = token
    return group, seq


def _glob(subject: str) -> str:
    # "*" stands for one token, which never holds a dot here; ">" for the rest.
    return subject.replace(">", "*")
