"""The worker's pen: marks and outcomes of many deliveries that arrive together share one transaction.

A hundred attempts that wait for their mark cost one commit, and a lone one waits for nobody.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial

from opentelemetry import trace
from regie_chassis.batching import Batcher
from regie_chassis.clock import Clock
from regie_chassis.database import Database, is_transient
from regie_chassis.ids import DELIVERY, show_id
from regie_chassis.loops import tolerate_outage, try_through_outage

from regie_publisher.deliveries import outcomes
from regie_publisher.deliveries.delivery import LEASE, Held, Note

BATCH = 200


class LeaseLost(Exception):
    """The delivery is no longer ours: its lease has ended, or a person stopped it. Nothing may be sent."""


class Ledger:
    """Writes for all attempts of a process."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._marks: Batcher[Held, bool] = Batcher(self._write_marks, limit=BATCH)
        self._notes: Batcher[Note, bool | Exception] = Batcher(self._write_notes, limit=BATCH)

    async def mark(self, held: Held) -> None:
        """Notes that a call may leave. Raises LeaseLost, or the database's error: then no call may leave."""
        if not await self._marks.submit(held):
            raise LeaseLost

    async def save_handle(self, held: Held, name: str, value: str) -> None:
        """Keeps what `prepare` got, committed before it returns. Raises LeaseLost."""
        async with self._database.transaction() as session:
            if not await outcomes.save_handle(session, held, name, value, now=self._clock.now()):
                raise LeaseLost

    async def advance(self, note: Note) -> None:
        """Records a step within an attempt that goes on, through outages as `record` does. Raises LeaseLost."""
        if not await self.record(note):
            raise LeaseLost

    async def record(self, note: Note) -> bool:
        """Records how an attempt ended; through an outage of the database it tries for as long as a lease lasts.

        Returns False when it could not: the delivery was taken by others, or what is known here is lost and the
        sweeper will call the delivery unknown. Neither causes a second publish.
        """
        delivery = show_id(DELIVERY, note.held.id)
        with tolerate_outage("delivery.outcome_lost", level=logging.ERROR, delivery=delivery):
            return await try_through_outage(
                partial(self._submit, note),
                within=LEASE,
                event="delivery.outcome_waits_for_database",
                delivery=delivery,
            )
        return False

    async def _submit(self, note: Note) -> bool:
        written = await self._notes.submit(note)
        if isinstance(written, Exception):
            raise written
        return written

    async def _write_marks(self, held: Sequence[Held]) -> Sequence[bool]:
        # A batch belongs to no single trace, least of all to that of whoever came first.
        with trace.use_span(trace.INVALID_SPAN):
            async with self._database.statement() as session:
                return await outcomes.mark_publishing(session, held, now=self._clock.now())

    async def _write_notes(self, notes: Sequence[Note]) -> Sequence[bool | Exception]:
        """Writes a batch; where that fails, each note by itself, so that none takes its neighbours along."""
        with trace.use_span(trace.INVALID_SPAN):
            try:
                return await self._write_together(notes)
            except Exception as error:  # broad: an outage fails the batch, whatever else its one bad note
                if is_transient(error) or len(notes) == 1:
                    raise
            return [await self._write_alone(note) for note in notes]

    async def _write_together(self, notes: Sequence[Note]) -> Sequence[bool]:
        async with self._database.transaction() as session:
            return await outcomes.record(session, notes, now=self._clock.now())

    async def _write_alone(self, note: Note) -> bool | Exception:
        try:
            return (await self._write_together([note]))[0]
        except Exception as error:  # noqa: BLE001  # broad: handed on to the one whose note it is
            return error
