"""Handles the events of other services: at least once delivered, exactly once in effect.

A handler is `async def on_<event>(session, events)`. It gets a batch of events of one type in the session of one
transaction, with the inbox rows already written; it returns, and the transaction commits; then the messages are
acked. It must not commit, and must not talk to a network. When a batch fails, its events are tried one by one, so
that a poison message delays nobody but itself. A handler raises `Invalid` or `Unprocessable` where no other try can
succeed: its event is set aside at once.

A run of events that failed for reasons of our own stops the consumer, so that it does not drain the stream into the
dead letters; `dead_runs` has the rule (ADR 0019).
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import groupby
from typing import Any

import structlog
from google.protobuf.message import Message
from opentelemetry import trace
from opentelemetry.trace import SpanKind, StatusCode
from sqlalchemy.ext.asyncio import AsyncSession

from regie_chassis.boundary.errors import Invalid, TooLarge, Unprocessable
from regie_chassis.boundary.telemetry import is_unsampled, meter, start_child_span, traceparent_from, traceparent_of
from regie_chassis.data.database import Database, is_outage
from regie_chassis.events import dead_letters, inbox
from regie_chassis.events.dead_runs import DEAD_IN_A_ROW, DeadRuns
from regie_chassis.events.messaging import (
    Broker,
    ConsumerSpec,
    Event,
    Received,
    decode,
    service_of,
    stream_of,
    subject_of,
)
from regie_chassis.process.clock import Clock
from regie_chassis.process.loops import OUTAGE_PAUSE, Outages
from regie_chassis.process.retry import GiveUp, Retry, RetryPolicy

BATCH = 400  # events a transaction; measured a third faster than 100 in a burst (ADR 0007)
POLL = timedelta(seconds=1)
MAX_DELIVERIES = 50  # ends a message that kills the process each time, which no counter of ours survives
REMEMBERED_ATTEMPTS = 10_000

REFUSED = (Invalid, Unprocessable, TooLarge)
"""The event itself is to blame: no other try can succeed, and the failure is no sign of a defect."""

Handler = Callable[[AsyncSession, Sequence[Event[Any]]], Awaitable[None]]
Subscriptions = Mapping[type[Message], Handler]

log = structlog.get_logger()
_handled = meter().create_counter(
    "regie.consumer.handled", unit="{event}", description="Events handled for the first time"
)
_repeated = meter().create_counter(
    "regie.consumer.repeated", unit="{event}", description="Deliveries of handled events"
)
_dead = meter().create_counter("regie.consumer.dead", unit="{event}", description="Events set aside as dead letters")


class NotAnEvent(Exception):
    """A message in the stream that this service cannot read."""


@dataclass(slots=True)
class _Work:
    """One received message, its event once decoded, and the span of its handling."""

    received: Received
    span: trace.Span
    event: Event[Any] | None = None
    error: Exception | None = None


@dataclass(slots=True)
class _Attempts:
    """How often this process has failed at a message; outages do not count."""

    counts: OrderedDict[int, int] = field(default_factory=OrderedDict)

    def add(self, seq: int) -> int:
        self.counts[seq] = self.counts.get(seq, 0) + 1
        self.counts.move_to_end(seq)
        if len(self.counts) > REMEMBERED_ATTEMPTS:
            self.counts.popitem(last=False)
        return self.counts[seq]


class Consumer:
    """Reads one service's stream on behalf of another, in a durable consumer that all its replicas share."""

    def __init__(
        self,
        service: str,
        source: str,
        subscriptions: Subscriptions,
        *,
        database: Database,
        broker: Broker,
        clock: Clock,
        policy: RetryPolicy | None = None,
        batch: int = BATCH,
        dead_in_a_row: int = DEAD_IN_A_ROW,
    ) -> None:
        self.name = f"{service} reads {source}"
        self._types = {kind.DESCRIPTOR.full_name: kind for kind in subscriptions}
        self._handlers = {kind.DESCRIPTOR.full_name: handler for kind, handler in subscriptions.items()}
        self.spec = ConsumerSpec(
            stream=stream_of(source),
            name=service,
            subjects=tuple(subject_of(name, None) for name in sorted(self._types)),
        )
        self._database = database
        self._broker = broker
        self._clock = clock
        self._policy = policy or RetryPolicy()
        self._batch = batch
        self._runs = DeadRuns(dead_in_a_row)
        self._attempts = _Attempts()
        self._outages = Outages(self.name, clock)
        self.stopped_because = ""

    @property
    def healthy(self) -> bool:
        """False once a run of dead letters has stopped the consumer."""
        return not self.stopped_because

    async def run(self, stopping: asyncio.Event) -> None:
        """Reads until `stopping` is set, or until too many messages in a row were dead."""
        while not stopping.is_set() and self.healthy:
            async with self._outages.waited_out(stopping):
                received = await self._broker.fetch(self.spec, self._batch, POLL)
                if received:
                    await self.handle(received)
        if not self.healthy:
            log.error("consumer.stopped", consumer=self.name, reason=self.stopped_because)
            await stopping.wait()

    async def handle(self, received: Sequence[Received]) -> None:
        """Handles messages and settles every one of them: acked, given back, or set aside as dead."""
        works = [self._open(one) for one in received]
        readable = [work for work in works if work.event is not None]
        try:
            await self._handle_together(readable)
        except Exception as error:  # broad: whatever a handler raises, its message is retried or set aside
            if is_outage(error):
                await self._give_back(works, error)
                raise
            if len(readable) == 1:
                readable[0].error = error
            else:
                await self._handle_one_by_one(works, readable)
        good = [work.received for work in works if work.error is None]
        # Before the failures are settled: those of a batch that was handled in part are no run.
        self._runs.handled(_workspace_of(one) for one in good)
        for work in works:
            if work.error is not None:
                await self._settle_failed(work, work.error, alone=not good)
        await self._broker.ack(good)
        for work in works:
            work.span.end()

    def _open(self, received: Received) -> _Work:
        envelope = received.envelope
        name = envelope.headers.get("ce-type", envelope.subject)
        traceparent = traceparent_from(envelope.headers)
        span = start_child_span(
            f"process {name.rsplit('.', 1)[-1]}",
            traceparent,
            kind=SpanKind.CONSUMER,
            attributes={"messaging.system": "nats", "messaging.message.id": envelope.id},
        )
        work = _Work(received, span)
        try:
            work.event = decode(envelope, self._types[name], _traceparent_below(span, traceparent))
        except Exception as error:  # noqa: BLE001  # broad: bytes from outside can fail in any way; all of them mean "not an event"
            work.error = NotAnEvent(f"cannot be read as {name}: {type(error).__name__}: {error}")
        return work

    async def _handle_together(self, works: Sequence[_Work]) -> None:
        if not works:
            return
        events = [work.event for work in works if work.event is not None]
        alone = trace.use_span(works[0].span, end_on_exit=False) if len(works) == 1 else None
        token = alone.__enter__() if alone else None
        try:
            async with self._database.transaction() as session:
                fresh = await inbox.claim(session, [event.id for event in events])
                new = [event for event in {event.id: event for event in events}.values() if event.id in fresh]
                for name, batch in groupby(new, key=lambda event: event.message.DESCRIPTOR.full_name):
                    await self._handlers[name](session, list(batch))
        finally:
            if alone and token is not None:
                alone.__exit__(None, None, None)
        _handled.add(len(new), {"consumer": self.name})
        _repeated.add(len(events) - len(new), {"consumer": self.name})

    async def _handle_one_by_one(self, works: Sequence[_Work], readable: Sequence[_Work]) -> None:
        for work in readable:
            try:
                await self._handle_together([work])
            except Exception as error:  # broad: see handle
                if is_outage(error):
                    await self._give_back(works, error)
                    raise
                work.error = error

    async def _give_back(self, works: Sequence[_Work], error: Exception) -> None:
        for work in works:
            work.span.record_exception(error)
            work.span.end()
        await self._broker.nak([work.received for work in works], OUTAGE_PAUSE)

    async def _settle_failed(self, work: _Work, error: Exception, *, alone: bool) -> None:
        received = work.received
        work.span.set_status(StatusCode.ERROR, type(error).__name__)
        work.span.record_exception(error)
        attempt = self._attempts.add(received.stream_seq)
        refused = isinstance(error, REFUSED) and not error.retryable
        decision = self._policy.decide(attempt, error)
        if isinstance(error, NotAnEvent):
            decision = GiveUp(str(error))
        elif refused:
            decision = GiveUp(f"{type(error).__name__}: {error}"[:1000])
        elif isinstance(decision, Retry) and received.deliveries >= MAX_DELIVERIES:
            decision = GiveUp(f"delivered {received.deliveries} times; last {type(error).__name__}: {error}"[:1000])
        if isinstance(decision, Retry):
            log.warning(
                "consumer.retries", consumer=self.name, id=received.envelope.id, attempt=attempt, exc_info=error
            )
            await self._broker.nak([received], decision.delay)
            return
        async with self._database.transaction() as session:
            await dead_letters.keep(session, self.spec.stream, received, reason=decision.reason, attempts=attempt)
        await self._broker.ack([received])
        _dead.add(1, {"consumer": self.name})
        log.error("consumer.dead_letter", consumer=self.name, id=received.envelope.id, reason=decision.reason)
        if alone and not refused and self._runs.died(_workspace_of(received)):
            self.stopped_because = f"{self._runs.length} dead letters in a row; last: {decision.reason}"


def _traceparent_below(span: trace.Span, traceparent: str) -> str:
    return traceparent if is_unsampled(traceparent) else traceparent_of(span) or traceparent


def _workspace_of(received: Received) -> str:
    return received.envelope.subject.rpartition(".")[2]


def consumers(
    service: str, subscriptions: Subscriptions, *, database: Database, broker: Broker, clock: Clock
) -> list[Consumer]:
    """Returns one consumer for each service with subscribed events."""
    by_source: dict[str, dict[type[Message], Handler]] = {}
    for kind, handler in subscriptions.items():
        by_source.setdefault(service_of(kind.DESCRIPTOR.full_name), {})[kind] = handler
    return [
        Consumer(service, source, handlers, database=database, broker=broker, clock=clock)
        for source, handlers in sorted(by_source.items())
    ]
