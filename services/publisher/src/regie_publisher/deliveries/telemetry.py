"""Counts and logs of deliveries: one function for each fact."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Protocol
from uuid import UUID

import structlog
from opentelemetry.metrics import CallbackOptions, Observation
from regie.ids.v1.prefixes import CHANNEL, DELIVERY, POST
from regie_chassis.boundary.ids import show_id
from regie_chassis.boundary.telemetry import meter, trace_id_of
from regie_chassis.data.database import after_commit
from sqlalchemy.ext.asyncio import AsyncSession

from regie_publisher.deliveries.delivery import Outcome, RecordedOutcome, State

log = structlog.get_logger()
ENDS = {
    State.PUBLISHED: (logging.DEBUG, "delivery.published"),  # a burst publishes thousands a second
    State.CANCELLED: (logging.INFO, "delivery.cancelled"),
    State.MISSED: (logging.WARNING, "delivery.missed"),
    State.UNKNOWN: (logging.WARNING, "delivery.unknown"),
    State.FAILED: (logging.WARNING, "delivery.failed"),
}
"""States that are logged, with level and event; the others stand in the timeline of the delivery."""

_outcomes = meter().create_counter(
    "regie.publisher.outcomes", unit="{delivery}", description="Changes of deliveries by network and new state"
)
_unknown = {False: 0, True: 0}


class LoggedDelivery(Protocol):
    """The values of a log record: claimed deliveries and rows of `delivery` have them."""

    @property
    def id(self) -> UUID: ...
    @property
    def post_id(self) -> UUID: ...
    @property
    def channel_id(self) -> UUID: ...
    @property
    def network(self) -> str: ...
    @property
    def attempt_number(self) -> int: ...


def count_outcomes(session: AsyncSession, recorded: Sequence[RecordedOutcome]) -> None:
    """Counts recorded outcomes after the commit."""
    counted = Counter((one.delivery.network, one.outcome.state.value) for one in recorded)

    def add() -> None:
        for (network, state), count in counted.items():
            _outcomes.add(count, {"network": network, "state": state})

    after_commit(session, add)


def log_end(session: AsyncSession, delivery: LoggedDelivery, outcome: Outcome, *, traceparent: str) -> None:
    """Logs an ended or unknown delivery after the commit: ids and kinds, never content or the network's texts.

    `traceparent` is an argument because a group of outcomes is recorded outside of any span.
    """
    level, event = ENDS.get(outcome.state, (logging.NOTSET, ""))
    if not event or not log.is_enabled_for(level):
        return
    record: dict[str, object] = {
        "delivery_id": show_id(DELIVERY, delivery.id),
        "post_id": show_id(POST, delivery.post_id),
        "channel_id": show_id(CHANNEL, delivery.channel_id),
        "network": delivery.network,
        "attempt": delivery.attempt_number,
        "cause": outcome.cause.value,
        "trace_id": trace_id_of(traceparent),
    }
    if outcome.failure_kind is not None:
        record["kind"] = outcome.failure_kind.value
    if outcome.state is State.UNKNOWN:
        record["needs_person"] = outcome.needs_person
    after_commit(session, lambda: log.log(level, event, **record))


def set_unknown(*, searching: int, needs_person: int) -> None:
    """Sets the number of unknown deliveries; an alert watches both figures."""
    _unknown[False] = searching
    _unknown[True] = needs_person


def _observe_unknown(_options: CallbackOptions) -> Iterable[Observation]:
    return [Observation(count, {"needs_person": person}) for person, count in _unknown.items()]


meter().create_observable_gauge(
    "regie.publisher.unknown",
    callbacks=[_observe_unknown],
    unit="{delivery}",
    description="Deliveries of which nobody knows whether they are on the network",
)
