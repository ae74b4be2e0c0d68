"""Sends what the outbox holds to the service's stream, in order, and again when the stream has lost it.

A row outlives its acknowledgement by `KEEP`, because a stream can lose what it had acknowledged (power cut before
the flush). The relay notices that the stream's sequence went backwards and sends the tail again; `Nats-Msg-Id` and
the consumers' inboxes absorb what was not lost (ADR 0003).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import structlog
from opentelemetry.trace import SpanKind
from sqlalchemy import text
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncSession

from regie_chassis.clock import Clock
from regie_chassis.database import BROKEN_CONNECTION, Database, is_transient
from regie_chassis.messaging import (
    Broker,
    BrokerUnavailable,
    Envelope,
    NoSuchStream,
    StreamSpec,
    StreamState,
    headers_of,
    subject_of,
)
from regie_chassis.telemetry import context_of, meter, traceparent_of, tracer

KEEP = timedelta(minutes=15)
BATCH = 500
IDLE = timedelta(milliseconds=200)  # looks for rows that another process staged
OUTAGE_PAUSE = timedelta(seconds=1)
CHECK_EVERY = timedelta(seconds=5)  # compares the stream's sequence with ours
PURGE_EVERY = timedelta(minutes=1)
RELAY_LOCK = 0x6F7574626F78  # "outbox"; whoever holds it relays, which keeps the order

log = structlog.get_logger()
_sent = meter().create_counter("regie.outbox.sent", unit="{event}", description="Events acknowledged by the stream")
_replayed = meter().create_counter(
    "regie.outbox.replayed", unit="{event}", description="Events sent again after a loss"
)


@dataclass(frozen=True, slots=True)
class Row:
    """An outbox row on its way."""

    id: int
    event_id: UUID
    aggregate_id: str
    workspace_id: UUID
    type: str
    payload: bytes
    traceparent: str
    event_time: datetime


class Relay:
    """Sends staged events to the service's stream. Any number of replicas may run; one at a time is at work."""

    name = "outbox relay"

    def __init__(self, database: Database, broker: Broker, stream: StreamSpec, clock: Clock) -> None:
        self._database = database
        self._broker = broker
        self._stream = stream
        self._clock = clock
        self._last_seq = 0
        self._create_time: datetime | None = None
        self._check_time: datetime | None = None
        self._purge_time: datetime | None = None

    async def run(self, stopping: asyncio.Event) -> None:
        """Relays until told to stop, and drains what is staged by then."""
        while not stopping.is_set():
            try:
                await self._relay_while_holding_the_lock(stopping)
            except (BrokerUnavailable, NoSuchStream) as error:
                log.warning("relay.waits_for_broker", error=str(error))
                await self._clock.wait(stopping, OUTAGE_PAUSE)
            except Exception as error:
                if not is_transient(error):
                    raise
                log.warning("relay.waits_for_database", error=type(error).__name__)
                await self._clock.wait(stopping, OUTAGE_PAUSE)

    async def _relay_while_holding_the_lock(self, stopping: asyncio.Event) -> None:
        # A session-level lock on a connection of its own: held across batches, and gone with the process.
        lock = await _connect(self._database.url)
        try:
            while not await lock.fetchval("SELECT pg_try_advisory_lock($1)", RELAY_LOCK, timeout=5):
                if await self._clock.wait(stopping, IDLE):
                    return
            await self._broker.ensure_stream(self._stream)
            self._check_time = None
            while True:
                self._database.staged.clear()
                sent = await self.relay_once()
                if sent == 0:
                    if stopping.is_set():
                        return
                    await lock.fetchval("SELECT 1", timeout=5)
                    await self._clock.wait(self._database.staged, IDLE)
        finally:
            with suppress(OSError, TimeoutError, asyncpg.PostgresError, *BROKEN_CONNECTION):
                await lock.close(timeout=2)

    async def relay_once(self) -> int:
        """Sends one batch, and looks after lost tails and old rows when it is time. Returns how many were sent."""
        now = self._clock.now()
        if self._check_time is None or now >= self._check_time:
            await self._replay_lost_tail()
            self._check_time = now + CHECK_EVERY
        if self._purge_time is None or now >= self._purge_time:
            async with self._database.transaction() as session:
                await session.execute(text("DELETE FROM outbox WHERE sent_time < :limit"), {"limit": now - KEEP})
            self._purge_time = now + PURGE_EVERY
        async with self._database.reading() as session:
            rows = await _unsent(session)
        if not rows:
            return 0
        sent = await self._publish(rows)
        if sent:
            async with self._database.transaction() as session:
                await _mark_sent(session, sent, now=self._clock.now())
            _sent.add(len(sent))
        went_back = [seq for seq in sent.values() if seq <= self._last_seq]
        self._last_seq = max([self._last_seq, *sent.values()])
        if went_back:
            # Either the stream lost its tail, or these were duplicates of rows whose ack we missed: look at once.
            self._check_time = None
            self._last_seq = 0
            await self._resend_from(min(went_back), but=set(sent))
        if len(sent) < len(rows):
            raise BrokerUnavailable(f"{len(rows) - len(sent)} of {len(rows)} events were not acknowledged")
        return len(sent)

    async def _publish(self, rows: Sequence[Row]) -> dict[int, int]:
        """Publishes in waves of one event an aggregate, so that a failed one holds back only its followers."""
        sent: dict[int, int] = {}
        held: set[str] = set()
        waiting = list(rows)
        while waiting:
            wave: list[Row] = []
            later: list[Row] = []
            seen: set[str] = set()
            for row in waiting:
                if row.aggregate_id in held:
                    continue
                (later if row.aggregate_id in seen else wave).append(row)
                seen.add(row.aggregate_id)
            sequences = await self._broker.publish([_envelope(row) for row in wave])
            for row, seq in zip(wave, sequences, strict=True):
                if seq is None:
                    held.add(row.aggregate_id)
                else:
                    sent[row.id] = seq
            waiting = later
        return sent

    async def _replay_lost_tail(self) -> None:
        try:
            state = await self._broker.stream_state(self._stream.name)
        except NoSuchStream:
            await self._broker.ensure_stream(self._stream)
            state = await self._broker.stream_state(self._stream.name)
        known = await self._known_tail()
        if self._create_time is None and known is not None and known.sent_time < state.create_time:
            await self._resend_from(0, but=set())  # made anew since our last ack, perhaps while we were down
        elif self._create_time is not None and state.create_time != self._create_time:
            await self._resend_from(0, but=set())
        elif known is not None and known.stream_seq > state.last_seq:
            await self._resend_from(state.last_seq + 1, but=set())
        self._note(state)

    def _note(self, state: StreamState) -> None:
        self._create_time = state.create_time
        self._last_seq = state.last_seq

    async def _known_tail(self) -> Any:
        async with self._database.reading() as session:
            rows = await session.execute(
                text(
                    "SELECT max(stream_seq) AS stream_seq, max(sent_time) AS sent_time FROM outbox"
                    " WHERE sent_time IS NOT NULL HAVING count(*) > 0"
                )
            )
        return rows.one_or_none()

    async def _resend_from(self, seq: int, *, but: set[int]) -> None:
        async with self._database.transaction() as session:
            rows = await session.execute(
                text(
                    "UPDATE outbox SET sent_time = NULL, stream_seq = NULL"
                    " WHERE sent_time IS NOT NULL AND stream_seq >= :seq AND NOT id = ANY(:but) RETURNING id"
                ),
                {"seq": seq, "but": list(but)},
            )
            count = len(rows.all())
        if count:
            _replayed.add(count)
            log.warning("relay.replays_lost_tail", stream=self._stream.name, from_seq=seq, events=count)


def _envelope(row: Row) -> Envelope:
    span = tracer().start_span(
        f"publish {row.type.rsplit('.', 1)[-1]}",
        context=context_of(row.traceparent),
        kind=SpanKind.PRODUCER,
        attributes={"messaging.system": "nats", "messaging.message.id": str(row.event_id)},
    )
    traceparent = traceparent_of(span) or row.traceparent
    span.end()
    return Envelope(
        subject=subject_of(row.type, row.workspace_id),
        id=str(row.event_id),
        payload=row.payload,
        headers=headers_of(
            row.type,
            event_id=row.event_id,
            workspace_id=row.workspace_id,
            time=row.event_time,
            traceparent=traceparent,
        ),
    )


async def _unsent(session: AsyncSession) -> list[Row]:
    # By "not sent", never by "after the last id": ids commit out of order.
    rows = await session.execute(
        text(
            "SELECT id, event_id, aggregate_id, workspace_id, type, payload, traceparent, event_time"
            f" FROM outbox WHERE sent_time IS NULL ORDER BY id LIMIT {BATCH}"
        )
    )
    return [Row(*row) for row in rows]


async def _mark_sent(session: AsyncSession, sent: dict[int, int], *, now: datetime) -> None:
    await session.execute(
        text(
            "UPDATE outbox SET sent_time = :now, stream_seq = acked.seq"
            " FROM unnest(CAST(:ids AS bigint[]), CAST(:seqs AS bigint[])) AS acked (id, seq)"
            " WHERE outbox.id = acked.id"
        ),
        {"now": now, "ids": list(sent), "seqs": list(sent.values())},
    )


async def _connect(url: str) -> asyncpg.Connection[asyncpg.Record]:
    dsn = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    return await asyncpg.connect(dsn, timeout=5, command_timeout=15)
