"""Publishes the rows of the outbox to the service's stream, in order, and again when the stream has lost them.

A row outlives its acknowledgement by its `life`, because a stream can lose acknowledged events (power cut before the
flush). The relay notices that the stream's sequence went backwards and sends the tail again; `Nats-Msg-Id` and
the consumers' inboxes absorb the copies of events that were not lost (ADR 0003).
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

import asyncpg
import structlog
from sqlalchemy import text
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncSession

from regie_chassis.boundary.telemetry import meter
from regie_chassis.data.bulk import Columns
from regie_chassis.data.database import BROKEN_CONNECTION, Database
from regie_chassis.events.messaging import (
    Broker,
    BrokerUnavailable,
    NoSuchStream,
    StreamSpec,
    StreamState,
)
from regie_chassis.events.outbox import purge_sent
from regie_chassis.events.turns import BATCH, Turns, oldest_waiting
from regie_chassis.events.waves import publish_in_waves
from regie_chassis.process.clock import Clock
from regie_chassis.process.loops import Outages, is_outage_or_lost

LIFE = timedelta(minutes=15)  # of a row after its acknowledgement
IDLE = timedelta(milliseconds=200)  # looks for rows that another process staged
GIVE_WAY = timedelta(seconds=1)  # the longest wait for work that is due, before all that has been staged is sent
CHECK_EVERY = timedelta(seconds=5)  # compares the stream's sequence with ours
TAIL = 10_000  # rows; what was sent before them is below the sequence that the last check saw
PURGE_EVERY = timedelta(minutes=1)
STUCK_AFTER = timedelta(seconds=60)  # without progress although PostgreSQL and NATS answer
MAX_REASON = 500  # characters
RELAY_LOCK = 0x6F7574626F78  # "outbox"; whoever holds it relays, which keeps the order

log = structlog.get_logger()
_sent = meter().create_counter("regie.outbox.sent", unit="{event}", description="Events acknowledged by the stream")
_replayed = meter().create_counter(
    "regie.outbox.replayed", unit="{event}", description="Events sent again after a loss"
)
_dead = meter().create_counter(
    "regie.outbox.dead", unit="{event}", description="Events set aside because they can never be sent"
)
_oldest = meter().create_gauge(
    "regie.outbox.oldest_unsent", unit="s", description="Age of the oldest event that waits to be sent"
)


class Relay:
    """Sends staged events to the service's stream. Any number of replicas may run; one at a time is at work.

    An event that no try can send is set aside as dead with its reason; those after it go on.
    """

    name = "outbox relay"

    def __init__(
        self,
        database: Database,
        broker: Broker,
        stream: StreamSpec,
        clock: Clock,
        *,
        life: timedelta = LIFE,
        calm: asyncio.Event | None = None,
    ) -> None:
        self._database = database
        self._broker = broker
        self._stream = stream
        self._clock = clock
        self._life = life
        self._calm = calm
        """Set unless a burst of due work leaves this process; the events about it wait for a moment (ADR 0036)."""
        self._last_seq = 0
        self._create_time: datetime | None = None
        self._check_time: datetime | None = None
        self._purge_time: datetime | None = None
        self._measure_time: datetime | None = None
        self._turns = Turns()
        self._progress_time = clock.now()
        self._outages = Outages(self.name, clock, on_outage=self._note_outage)

    @property
    def healthy(self) -> bool:
        """False while this relay gets nowhere although PostgreSQL and NATS answer; another replica may do better."""
        return self._clock.now() - self._progress_time < STUCK_AFTER

    async def run(self, stopping: asyncio.Event) -> None:
        """Relays until `stopping` is set, then drains the staged events."""
        while not stopping.is_set():
            async with self._outages.waited_out(stopping):
                await self._relay_while_holding_the_lock(stopping)

    async def _note_outage(self) -> None:
        """Distinguishes an outage, which all replicas share, from a relay that is stuck."""
        try:
            await self._measure()
            await self._broker.stream_state(self._stream.name)
        except NoSuchStream:
            return  # NATS answers: the next try has to make the stream
        except Exception as error:  # broad: a probe; an outage is its answer and not its failure
            if not is_outage_or_lost(error):
                raise
            self._progress_time = self._clock.now()

    async def _measure(self) -> None:
        """Publishes the age of the oldest event that waits; every replica does, with or without the lock."""
        now = self._clock.now()
        if self._measure_time is not None and now < self._measure_time:
            return
        async with self._database.reading() as session:
            oldest = await oldest_waiting(session)
        _oldest.set(max((now - oldest).total_seconds(), 0.0) if oldest else 0.0)
        self._measure_time = now + CHECK_EVERY

    async def _relay_while_holding_the_lock(self, stopping: asyncio.Event) -> None:
        # A session-level lock on a connection of its own: held across batches, and gone with the process.
        lock = await _connect(self._database.url)
        try:
            while not await lock.fetchval("SELECT pg_try_advisory_lock($1)", RELAY_LOCK, timeout=5):
                self._progress_time = self._clock.now()  # another replica is at work
                await self._measure()
                if await self._clock.wait(stopping, IDLE):
                    return
            await self._broker.ensure_stream(self._stream)
            self._check_time = None
            done = 0
            while True:
                self._database.staged.clear()
                await self._measure()
                if self._calm is not None and done < BATCH and not stopping.is_set():
                    await self._clock.wait(self._calm, GIVE_WAY)
                done = await self.relay_once()
                self._progress_time = self._clock.now()
                if done == 0:
                    if stopping.is_set():
                        return
                    await lock.fetchval("SELECT 1", timeout=5)
                    await self._clock.wait(self._database.staged, IDLE)
        finally:
            with suppress(OSError, TimeoutError, asyncpg.PostgresError, *BROKEN_CONNECTION):
                await lock.close(timeout=2)

    async def relay_once(self) -> int:
        """Sends one batch, and looks after lost tails and old rows when it is time.

        Returns how many rows have left the queue, sent or dead.
        """
        now = self._clock.now()
        if self._check_time is None or now >= self._check_time:
            await self._replay_lost_tail()
            self._check_time = now + CHECK_EVERY
        if self._purge_time is None or now >= self._purge_time:
            async with self._database.transaction() as session:
                await purge_sent(session, now=now, life=self._life)
            self._purge_time = now + PURGE_EVERY
        async with self._database.reading() as session:
            rows = await self._turns.next_rows(session)
        if not rows:
            return 0
        sent, dead = await publish_in_waves(self._broker, rows)
        await self._write_down(sent, dead)
        went_back = [seq for seq in sent.values() if seq <= self._last_seq]
        self._last_seq = max([self._last_seq, *sent.values()])
        if went_back:
            # Either the stream lost its tail, or these were duplicates of rows whose ack we missed: look at once.
            self._check_time = None
            self._last_seq = 0
            await self._resend_from(min(went_back), but=set(sent))
        done = len(sent) + len(dead)
        if done:
            self._progress_time = self._clock.now()
        if done < len(rows):
            raise BrokerUnavailable(f"{len(rows) - done} of {len(rows)} events were not acknowledged")
        return done

    async def _write_down(self, sent: dict[int, int], dead: dict[int, str]) -> None:
        if not sent and not dead:
            return
        async with self._database.transaction() as session:
            if sent:
                await _mark_sent(session, sent, now=self._clock.now())
            if dead:
                await _mark_dead(session, dead, now=self._clock.now())
        _sent.add(len(sent))
        _dead.add(len(dead))

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
        elif known is not None and max(known.stream_seq, self._last_seq) > state.last_seq:
            await self._resend_from(state.last_seq + 1, but=set())
        self._note(state)

    def _note(self, state: StreamState) -> None:
        self._create_time = state.create_time
        self._last_seq = state.last_seq

    async def _known_tail(self) -> Any:
        async with self._database.reading() as session:
            rows = await session.execute(_FIND_TAIL, {"rows": TAIL})
        return rows.one_or_none()

    async def _resend_from(self, seq: int, *, but: set[int]) -> None:
        async with self._database.transaction() as session:
            rows = await session.execute(_RESEND_FROM, {"seq": seq, "but": list(but)})
            count = len(rows.all())
        if count:
            _replayed.add(count)
            log.warning("relay.replays_lost_tail", stream=self._stream.name, from_seq=seq, events=count)


async def _mark_sent(session: AsyncSession, sent: dict[int, int], *, now: datetime) -> None:
    await session.execute(_MARK_SENT, {"now": now, **_ACKED.parameters(sent.items())})


async def _mark_dead(session: AsyncSession, dead: dict[int, str], *, now: datetime) -> None:
    rows = [(row_id, reason.replace("\x00", "")[:MAX_REASON]) for row_id, reason in dead.items()]
    await session.execute(_MARK_DEAD, {"now": now, **_DEAD.parameters(rows)})


async def _connect(url: str) -> asyncpg.Connection[asyncpg.Record]:
    dsn = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    return await asyncpg.connect(dsn, timeout=5, command_timeout=15)


# Backwards through the index on sent_time: at full rate all that was sent in a quarter of an hour is millions of rows.
_FIND_TAIL = text(
    """
    SELECT max(stream_seq) AS stream_seq, max(sent_time) AS sent_time FROM (
        SELECT stream_seq, sent_time FROM outbox WHERE sent_time IS NOT NULL ORDER BY sent_time DESC LIMIT :rows
    ) AS tail HAVING count(*) > 0
    """
)

_RESEND_FROM = text(
    """
    UPDATE outbox SET sent_time = NULL, stream_seq = NULL
    WHERE sent_time IS NOT NULL AND stream_seq >= :seq AND NOT id = ANY(:but) RETURNING id
    """
)

_ACKED = Columns("acked", id="bigint", seq="bigint")

_MARK_SENT = text(
    f"UPDATE outbox SET sent_time = :now, stream_seq = acked.seq FROM {_ACKED.unnest} WHERE outbox.id = acked.id"
)

_DEAD = Columns("dead", id="bigint", reason="text")

_MARK_DEAD = text(
    f"UPDATE outbox SET dead_time = :now, dead_reason = dead.reason FROM {_DEAD.unnest} WHERE outbox.id = dead.id"
)
