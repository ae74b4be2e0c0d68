"""One attempt at a delivery: review, prepare, mark, call, record, in that order and each at most once.

The mark is what makes a post go out at most once: it is committed before the call, and only a call that is proven to
have had no effect leads back to `pending`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import replace

import structlog
from opentelemetry.trace import SpanKind, StatusCode
from regie_chassis.clock import Clock
from regie_chassis.database import is_transient
from regie_chassis.ids import CHANNEL, DELIVERY, POST, show_id
from regie_chassis.telemetry import context_of, current_traceparent, tracer
from regie_networks.bounds import MAX_HANDLE
from regie_networks.contract import Connector
from regie_networks.draft import Draft, Processing, Remote
from regie_networks.errors import ConnectorError, FailureKind, OutcomeUnknown

from regie_publisher.accounts import Accounts
from regie_publisher.deliveries import judging
from regie_publisher.deliveries.absence import Doubt, may_repeat
from regie_publisher.deliveries.delivery import (
    LEASE,
    MARGIN,
    NETWORK_TIMEOUT,
    PREPARE_TIMEOUT,
    Cause,
    Held,
    Note,
    Outcome,
    State,
)
from regie_publisher.deliveries.drafts import draft_of
from regie_publisher.deliveries.ledger import LeaseLost, Ledger
from regie_publisher.media import Library

log = structlog.get_logger()


class _NotLoaded(Exception):
    """The database did not give what the draft is made of: no verdict on the delivery, and no try of it."""


class Attempts:
    """Makes attempts. One for each process; any number of attempts at once."""

    def __init__(
        self,
        *,
        connectors: Mapping[str, Connector],
        accounts: Accounts,
        library: Library,
        ledger: Ledger,
        clock: Clock,
    ) -> None:
        self._connectors = connectors
        self._accounts = accounts
        self._library = library
        self._ledger = ledger
        self._clock = clock

    async def make(self, held: Held) -> Outcome | None:
        """Makes the attempt and records how it ended. Returns the outcome, None where the lease was lost.

        Never raises for what a network or an outage can do.
        """
        context = context_of(held.traceparent)
        with tracer().start_as_current_span(f"deliver {held.network}", context=context) as span:
            if span.is_recording():
                span.set_attributes(_names_of(held))
            try:
                held, outcome = await self._try(held)
            except LeaseLost:
                log.warning("delivery.lease_lost", delivery=show_id(DELIVERY, held.id), fence=held.fence)
                return None
            span.set_attribute("regie.outcome", outcome.state.value)
            if outcome.state in (State.FAILED, State.UNKNOWN):
                span.set_status(StatusCode.ERROR, outcome.failure_kind or outcome.cause)
            await self._ledger.record(Note(held, outcome, current_traceparent()))
            return outcome

    async def _try(self, held: Held) -> tuple[Held, Outcome]:
        """Returns how the attempt ended, and the delivery with the segments that were recorded on the way."""
        connector = self._connectors.get(held.network)
        if connector is None:
            message = f"{held.network} is not a network here"
            return held, judging.failed(FailureKind.UNSUPPORTED, message, cause=Cause.WORKER)
        try:
            draft = await self._draft(held)
            connector.review(draft)
            if connector.needs_preparation(draft):
                async with asyncio.timeout(PREPARE_TIMEOUT.total_seconds()):
                    await self._prepare(connector, draft, held)
            if held.call_end is not None and not await self._may_repeat(connector, draft, held):
                message = "an earlier call may still land, and its key protects no second one any more"
                return held, Outcome(State.UNKNOWN, Cause.WORKER, act_time=self._clock.now(), message=message)
        except LeaseLost:
            raise
        except _NotLoaded:
            return held, self._back(held, Cause.DATABASE_OUTAGE)
        except Exception as error:  # noqa: BLE001  # broad: nothing has left, whatever it is
            self._log_unforeseen(error, held)
            return held, judging.before_publish(error, held, self._clock.now(), version=self._version(held))
        return await self._publish_segments(connector, draft, held)

    async def _draft(self, held: Held) -> Draft:
        try:
            return await draft_of(held, accounts=self._accounts, library=self._library)
        except Exception as error:  # broad: an outage says nothing of the channel, and nothing has left
            if not is_transient(error):
                raise
            raise _NotLoaded from error

    async def _prepare(self, connector: Connector, draft: Draft, held: Held) -> None:
        async def save_handle(name: str, value: str) -> None:
            if len(value) > MAX_HANDLE:
                raise OutcomeUnknown("The server took a part of the post and gave it a handle that is too long to keep")
            await self._ledger.save_handle(held, name, value)

        with tracer().start_as_current_span("prepare", attributes={"regie.network": held.network}):
            await connector.prepare(draft, save_handle)

    async def _may_repeat(self, connector: Connector, draft: Draft, held: Held) -> bool:
        """Asks again right before the call: since the look, the attempt may have waited for long."""
        now = self._clock.now()
        doubt = Doubt(end=held.call_end or now, first=held.compose_time, looks=held.looks)
        return may_repeat(await connector.absence(draft.account), doubt, now)

    async def _publish_segments(self, connector: Connector, draft: Draft, held: Held) -> tuple[Held, Outcome]:
        asked = time.monotonic()
        try:
            await self._ledger.mark(held)
        except Exception as error:  # broad: an outage ends the attempt, which is no loop
            if not is_transient(error):
                raise
            return held, self._back(held, Cause.DATABASE_OUTAGE)  # marked or not, no call has left
        for index in range(len(draft.remotes), len(draft.segments)):
            if time.monotonic() - asked > (LEASE - NETWORK_TIMEOUT - MARGIN).total_seconds():
                # The lease might end under the call. Nothing has left, and a raised fence will refuse this note.
                return held, self._back(held, Cause.LEASE_SHORT)
            answer = await self._publish(connector, draft, held, index)
            if isinstance(answer, Outcome):
                return held, answer
            outcome = judging.out(
                answer, held, self._clock.now(), done=index, cause=Cause.WORKER, quiet=connector.quiet
            )
            if outcome.state is not State.PENDING or not isinstance(answer, Remote):
                return held, outcome
            asked = time.monotonic()
            going_on = replace(outcome, state=State.PUBLISHING, act_time=self._clock.now() + LEASE)
            await self._ledger.advance(Note(held, going_on, current_traceparent()))
            draft.remotes.append(answer)
            held = replace(held, remotes=tuple(draft.remotes), tries=0, call_end=None, quiet_end=None, looks=0)
        raise AssertionError("a delivery without segments is never pending")

    async def _publish(
        self, connector: Connector, draft: Draft, held: Held, index: int
    ) -> Remote | Processing | Outcome:
        """Calls the network once. Returns its answer, or what an error means."""
        attributes: dict[str, str | int] = {
            "regie.network": held.network,
            "regie.attempt": held.attempt,
            "regie.segment": index,
        }
        with tracer().start_as_current_span("publish", kind=SpanKind.CLIENT, attributes=attributes) as span:
            version = self._version(held)
            try:
                async with asyncio.timeout(NETWORK_TIMEOUT.total_seconds()):
                    return await connector.publish(draft, index)
            except Exception as error:  # noqa: BLE001  # broad: whatever it is, the call may have had its effect
                self._log_unforeseen(error, held)
                span.set_status(StatusCode.ERROR, type(error).__name__)
                return judging.after_publish(error, held, self._clock.now(), version=version, quiet=connector.quiet)

    def _back(self, held: Held, cause: Cause) -> Outcome:
        return Outcome(State.PENDING, cause, act_time=self._clock.now(), tries=max(held.tries - 1, 0))

    def _version(self, held: Held) -> int | None:
        return self._accounts.version(held.channel_id)

    def _log_unforeseen(self, error: Exception, held: Held) -> None:
        if not isinstance(error, ConnectorError | TimeoutError):
            log.error("delivery.failed_unforeseen", delivery=show_id(DELIVERY, held.id), exc_info=error)


def _names_of(held: Held) -> dict[str, str | int]:
    return {
        "regie.delivery_id": show_id(DELIVERY, held.id),
        "regie.post_id": show_id(POST, held.post_id),
        "regie.channel_id": show_id(CHANNEL, held.channel_id),
        "regie.network": held.network,
        "regie.attempt": held.attempt,
    }
