"""One attempt at a delivery: review, prepare, mark, call, record, in that order and each at most once.

The mark makes a post go out at most once: it is committed before the call, and only a call that is proven to have had
no effect leads back to `pending`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import replace

import structlog
from opentelemetry.trace import SpanKind, StatusCode
from regie.ids.v1.prefixes import CHANNEL, DELIVERY, POST
from regie_chassis.boundary.ids import show_id
from regie_chassis.boundary.telemetry import context_of, current_traceparent, tracer
from regie_chassis.data.database import is_transient
from regie_chassis.process.clock import Clock
from regie_networks.bounds import MAX_HANDLE
from regie_networks.contract import Connector
from regie_networks.draft import Draft, Processing, Remote
from regie_networks.errors import ConnectorError, FailureKind, OutcomeUnknown

from regie_publisher.channels.accounts import Accounts
from regie_publisher.deliveries import decisions
from regie_publisher.deliveries.absence import Doubt, may_repeat
from regie_publisher.deliveries.delivery import (
    LEASE,
    MARGIN,
    NETWORK_TIMEOUT,
    PREPARE_TIMEOUT,
    Cause,
    ClaimedDelivery,
    Outcome,
    RecordedOutcome,
    State,
)
from regie_publisher.deliveries.drafts import build_draft
from regie_publisher.deliveries.outcome_writer import LeaseLost, OutcomeWriter
from regie_publisher.media.store import MediaStore

log = structlog.get_logger()


class _NotLoaded(Exception):
    """The database did not give the parts of the draft: no verdict on the delivery, and no attempt of it."""


class Attempts:
    """Makes attempts. One object for each process; any number of attempts at once."""

    def __init__(
        self,
        *,
        connectors: Mapping[str, Connector],
        accounts: Accounts,
        media_store: MediaStore,
        writer: OutcomeWriter,
        clock: Clock,
    ) -> None:
        self._connectors = connectors
        self._accounts = accounts
        self._media_store = media_store
        self._writer = writer
        self._clock = clock

    async def make(self, delivery: ClaimedDelivery) -> Outcome | None:
        """Makes the attempt and records its outcome. Returns the outcome; None if the lease was lost.

        Never raises an error of a network or of an outage.
        """
        context = context_of(delivery.traceparent)
        with tracer().start_as_current_span(f"deliver {delivery.network}", context=context) as span:
            if span.is_recording():
                span.set_attributes(_attributes_of(delivery))
            try:
                delivery, outcome = await self._try(delivery)
            except LeaseLost:
                log.warning("delivery.lease_lost", delivery=show_id(DELIVERY, delivery.id), fence=delivery.fence)
                return None
            span.set_attribute("regie.outcome", outcome.state.value)
            if outcome.state in (State.FAILED, State.UNKNOWN):
                span.set_status(StatusCode.ERROR, outcome.failure_kind or outcome.cause)
            await self._writer.record(RecordedOutcome(delivery, outcome, current_traceparent()))
            return outcome

    async def _try(self, delivery: ClaimedDelivery) -> tuple[ClaimedDelivery, Outcome]:
        """Returns the outcome, and the delivery with the segments that were recorded during the attempt."""
        connector = self._connectors.get(delivery.network)
        if connector is None:
            message = f"{delivery.network} is not a network here"
            return delivery, decisions.failed(FailureKind.UNSUPPORTED, message, cause=Cause.WORKER)
        try:
            draft = await self._draft(delivery)
            connector.review(draft)
            if connector.needs_preparation(draft):
                async with asyncio.timeout(PREPARE_TIMEOUT.total_seconds()):
                    await self._prepare(connector, draft, delivery)
            if delivery.call_end is not None and not await self._may_repeat(connector, draft, delivery):
                message = "an earlier call may still land, and its key protects no second one any more"
                return delivery, Outcome(
                    State.UNKNOWN, Cause.WORKER, next_action_time=self._clock.now(), message=message
                )
        except LeaseLost:
            raise
        except _NotLoaded:
            return delivery, self._back(delivery, Cause.DATABASE_OUTAGE)
        except Exception as error:  # noqa: BLE001  # broad: no call has begun, whatever the error is
            self._log_unforeseen(error, delivery)
            return delivery, decisions.decide_preparation_error(
                error, delivery, self._clock.now(), version=self._version(delivery)
            )
        return await self._publish_segments(connector, draft, delivery)

    async def _draft(self, delivery: ClaimedDelivery) -> Draft:
        try:
            return await build_draft(delivery, accounts=self._accounts, media_store=self._media_store)
        except Exception as error:  # broad: an outage says nothing of the channel, and nothing has left
            if not is_transient(error):
                raise
            raise _NotLoaded from error

    async def _prepare(self, connector: Connector, draft: Draft, delivery: ClaimedDelivery) -> None:
        async def save_handle(name: str, value: str) -> None:
            if len(value) > MAX_HANDLE:
                raise OutcomeUnknown("The server took a part of the post and gave it a handle that is too long to keep")
            await self._writer.save_handle(delivery, name, value)

        with tracer().start_as_current_span("prepare", attributes={"regie.network": delivery.network}):
            await connector.prepare(draft, save_handle)

    async def _may_repeat(self, connector: Connector, draft: Draft, delivery: ClaimedDelivery) -> bool:
        """Applies the rule again right before the call: the attempt may have waited for long since the lookup."""
        now = self._clock.now()
        doubt = Doubt(end=delivery.call_end or now, first=delivery.compose_time, empty_lookups=delivery.empty_lookups)
        return may_repeat(await connector.absence(draft.account), doubt, now)

    async def _publish_segments(
        self, connector: Connector, draft: Draft, delivery: ClaimedDelivery
    ) -> tuple[ClaimedDelivery, Outcome]:
        mark_time = time.monotonic()
        try:
            await self._writer.mark(delivery)
        except Exception as error:  # broad: an outage ends the attempt, which is no loop
            if not is_transient(error):
                raise
            return delivery, self._back(delivery, Cause.DATABASE_OUTAGE)  # marked or not, no call has begun
        for index in range(len(draft.remotes), len(draft.segments)):
            if time.monotonic() - mark_time > (LEASE - NETWORK_TIMEOUT - MARGIN).total_seconds():
                # The lease might expire during the call. No call has begun, and a raised fence refuses this outcome.
                return delivery, self._back(delivery, Cause.LEASE_SHORT)
            answer = await self._publish(connector, draft, delivery, index)
            if isinstance(answer, Outcome):
                return delivery, answer
            outcome = decisions.decide_published(
                answer, delivery, self._clock.now(), done=index, cause=Cause.WORKER, quiet=connector.quiet
            )
            if outcome.state is not State.PENDING or not isinstance(answer, Remote):
                return delivery, outcome
            mark_time = time.monotonic()
            going_on = replace(outcome, state=State.PUBLISHING, next_action_time=self._clock.now() + LEASE)
            await self._writer.advance(RecordedOutcome(delivery, going_on, current_traceparent()))
            draft.remotes.append(answer)
            delivery = replace(
                delivery,
                remotes=tuple(draft.remotes),
                consecutive_attempts=0,
                call_end=None,
                quiet_end=None,
                empty_lookups=0,
            )
        raise AssertionError("a delivery without segments is never pending")

    async def _publish(
        self, connector: Connector, draft: Draft, delivery: ClaimedDelivery, index: int
    ) -> Remote | Processing | Outcome:
        """Calls the network once. Returns its answer, or the outcome of an error."""
        attributes: dict[str, str | int] = {
            "regie.network": delivery.network,
            "regie.attempt": delivery.attempt_number,
            "regie.segment": index,
        }
        with tracer().start_as_current_span("publish", kind=SpanKind.CLIENT, attributes=attributes) as span:
            version = self._version(delivery)
            try:
                async with asyncio.timeout(NETWORK_TIMEOUT.total_seconds()):
                    return await connector.publish(draft, index)
            except Exception as error:  # noqa: BLE001  # broad: whatever it is, the call may have had its effect
                self._log_unforeseen(error, delivery)
                span.set_status(StatusCode.ERROR, type(error).__name__)
                return decisions.decide_publish_error(
                    error, delivery, self._clock.now(), version=version, quiet=connector.quiet
                )

    def _back(self, delivery: ClaimedDelivery, cause: Cause) -> Outcome:
        return Outcome(
            State.PENDING,
            cause,
            next_action_time=self._clock.now(),
            consecutive_attempts=max(delivery.consecutive_attempts - 1, 0),
        )

    def _version(self, delivery: ClaimedDelivery) -> int | None:
        return self._accounts.version(delivery.channel_id)

    def _log_unforeseen(self, error: Exception, delivery: ClaimedDelivery) -> None:
        if not isinstance(error, ConnectorError | TimeoutError):
            log.error("delivery.failed_unforeseen", delivery=show_id(DELIVERY, delivery.id), exc_info=error)


def _attributes_of(delivery: ClaimedDelivery) -> dict[str, str | int]:
    return {
        "regie.delivery_id": show_id(DELIVERY, delivery.id),
        "regie.post_id": show_id(POST, delivery.post_id),
        "regie.channel_id": show_id(CHANNEL, delivery.channel_id),
        "regie.network": delivery.network,
        "regie.attempt": delivery.attempt_number,
    }
