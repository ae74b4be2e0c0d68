"""Writes marks and outcomes in groups: those that arrive together share one transaction (ADR 0008).

A hundred attempts that wait for their mark cost one commit, and a single one waits for no other.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial

from opentelemetry import trace
from regie.ids.v1.prefixes import DELIVERY
from regie_chassis.boundary.ids import show_id
from regie_chassis.data.batching import Batcher
from regie_chassis.data.database import Database, is_transient
from regie_chassis.process.clock import Clock
from regie_chassis.process.loops import tolerate_outage, try_through_outage

from regie_publisher.deliveries import marks, outcomes
from regie_publisher.deliveries.delivery import LEASE, ClaimedDelivery, RecordedOutcome

BATCH = 200


class LeaseLost(Exception):
    """The claim is lost: the lease has expired, or a person has stopped the delivery. Nothing may be sent."""


class OutcomeWriter:
    """Writes the marks and outcomes of all attempts of a process."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._marks: Batcher[ClaimedDelivery, bool] = Batcher(self._write_marks, limit=BATCH)
        self._outcomes: Batcher[RecordedOutcome, bool | Exception] = Batcher(self._write_outcomes, limit=BATCH)

    async def mark(self, delivery: ClaimedDelivery) -> None:
        """Marks that a call may begin. Raises LeaseLost, or the database's error: then no call may begin."""
        if not await self._marks.submit(delivery):
            raise LeaseLost

    async def save_handle(self, delivery: ClaimedDelivery, name: str, value: str) -> None:
        """Saves a handle of `prepare` and commits it before returning. Raises LeaseLost."""
        async with self._database.transaction() as session:
            if not await marks.save_handle(session, delivery, name, value, now=self._clock.now()):
                raise LeaseLost

    async def advance(self, recorded: RecordedOutcome) -> None:
        """Records a step of an attempt that continues, and retries like `record`. Raises LeaseLost."""
        if not await self.record(recorded):
            raise LeaseLost

    async def record(self, recorded: RecordedOutcome) -> bool:
        """Records an outcome; during an outage of the database it retries for as long as a lease lasts.

        Returns False if it failed: the claim was lost, or the outcome is lost and the lease rescue will make the
        delivery unknown. Neither causes a second publish.
        """
        delivery = show_id(DELIVERY, recorded.delivery.id)
        with tolerate_outage("delivery.outcome_lost", level=logging.ERROR, delivery=delivery):
            return await try_through_outage(
                partial(self._submit, recorded),
                within=LEASE,
                event="delivery.outcome_waits_for_database",
                delivery=delivery,
            )
        return False

    async def _submit(self, recorded: RecordedOutcome) -> bool:
        written = await self._outcomes.submit(recorded)
        if isinstance(written, Exception):
            raise written
        return written

    async def _write_marks(self, claimed: Sequence[ClaimedDelivery]) -> Sequence[bool]:
        # A batch belongs to no single trace.
        with trace.use_span(trace.INVALID_SPAN):
            async with self._database.statement() as session:
                return await marks.mark_publishing(session, claimed, now=self._clock.now())

    async def _write_outcomes(self, recorded: Sequence[RecordedOutcome]) -> Sequence[bool | Exception]:
        """Writes a batch; if it fails, each outcome alone, so that none fails its neighbours."""
        with trace.use_span(trace.INVALID_SPAN):
            try:
                return await self._write_together(recorded)
            except Exception as error:  # broad: an outage fails the batch, whatever else its one bad outcome
                if is_transient(error) or len(recorded) == 1:
                    raise
            return [await self._write_alone(one) for one in recorded]

    async def _write_together(self, recorded: Sequence[RecordedOutcome]) -> Sequence[bool]:
        async with self._database.transaction() as session:
            return await outcomes.record(session, recorded, now=self._clock.now())

    async def _write_alone(self, recorded: RecordedOutcome) -> bool | Exception:
        try:
            return (await self._write_together([recorded]))[0]
        except Exception as error:  # noqa: BLE001  # broad: handed on to the attempt that waits for this outcome
            return error
