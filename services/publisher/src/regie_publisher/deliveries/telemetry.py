"""What the publisher counts and says about itself: one function for each fact."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Protocol
from uuid import UUID

import structlog
from opentelemetry.metrics import CallbackOptions, Observation
from regie_chassis.database import after_commit
from regie_chassis.ids import CHANNEL, DELIVERY, POST, show_id
from regie_chassis.telemetry import meter, trace_id_of
from sqlalchemy.ext.asyncio import AsyncSession

from regie_publisher.deliveries.delivery import Note, Outcome, State

log = structlog.get_logger()
ENDS = {
    State.PUBLISHED: (logging.DEBUG, "delivery.published"),  # a burst publishes thousands a second
    State.CANCELLED: (logging.INFO, "delivery.cancelled"),
    State.MISSED: (logging.WARNING, "delivery.missed"),
    State.UNKNOWN: (logging.WARNING, "delivery.unknown"),
    State.FAILED: (logging.WARNING, "delivery.failed"),
}
"""What becomes of a delivery and is logged; the states in between are in its timeline."""

_outcomes = meter().create_counter(
    "regie.publisher.outcomes", unit="{delivery}", description="Changes of deliveries by network and new state"
)
_observed = meter().create_counter(
    "regie.publisher.observed", unit="{post}", description="Posts whose numbers were read, by network"
)
_left_out = meter().create_counter(
    "regie.publisher.left_out",
    unit="{value}",
    description="Numbers and people that a network gave and that can be none, by network",
)
_unread = meter().create_counter(
    "regie.publisher.unread", unit="{post}", description="Readings of numbers that failed and are put off, by network"
)
_unknown = {False: 0, True: 0}


class Told(Protocol):
    """What a log record names of a delivery: held ones and rows of `delivery` have it."""

    @property
    def id(self) -> UUID: ...
    @property
    def post_id(self) -> UUID: ...
    @property
    def channel_id(self) -> UUID: ...
    @property
    def network(self) -> str: ...
    @property
    def attempt(self) -> int: ...


def tell_outcomes(session: AsyncSession, notes: Sequence[Note]) -> None:
    """Counts and logs what was recorded, once it is durable."""
    counted = Counter((note.held.network, note.outcome.state.value) for note in notes)

    def add() -> None:
        for (network, state), count in counted.items():
            _outcomes.add(count, {"network": network, "state": state})

    after_commit(session, add)
    for note in notes:
        if note.outcome.announce:
            tell_end(session, note.held, note.outcome, traceparent=note.traceparent)


def tell_end(session: AsyncSession, delivery: Told, outcome: Outcome, *, traceparent: str) -> None:
    """Logs what became of a delivery, once it is durable: ids and kinds, never content or the network's words.

    The trace is given, since what is recorded in groups is recorded under no span.
    """
    level, event = ENDS.get(outcome.state, (logging.NOTSET, ""))
    if not event or not log.is_enabled_for(level):
        return
    record: dict[str, object] = {
        "delivery_id": show_id(DELIVERY, delivery.id),
        "post_id": show_id(POST, delivery.post_id),
        "channel_id": show_id(CHANNEL, delivery.channel_id),
        "network": delivery.network,
        "attempt": delivery.attempt,
        "cause": outcome.cause.value,
        "trace_id": trace_id_of(traceparent),
    }
    if outcome.failure_kind is not None:
        record["kind"] = outcome.failure_kind.value
    if outcome.state is State.UNKNOWN:
        record["needs_person"] = outcome.needs_person
    after_commit(session, lambda: log.log(level, event, **record))


def count_observed(network: str, posts: int) -> None:
    """Counts posts whose numbers came in."""
    _observed.add(posts, {"network": network})


def count_left_out(network: str, values: int) -> None:
    """Counts what a network said and nobody can have meant."""
    if values:
        _left_out.add(values, {"network": network})


def count_unread(session: AsyncSession, network: str, posts: int) -> None:
    """Counts posts whose numbers could not be read, once that is durable."""
    after_commit(session, lambda: _unread.add(posts, {"network": network}))


def tell_unread(session: AsyncSession, delivery_id: UUID, channel_id: UUID, reason: str) -> None:
    """Logs that the numbers of a post are given up, once that is durable."""
    record = {"delivery_id": show_id(DELIVERY, delivery_id), "channel_id": show_id(CHANNEL, channel_id)}
    after_commit(session, lambda: log.warning("observe.given_up", reason=reason, **record))


def set_unknown(*, searching: int, needs_person: int) -> None:
    """Sets how many deliveries are unknown now; an alert stands on these two figures."""
    _unknown[False] = searching
    _unknown[True] = needs_person


def _look_at_unknown(_options: CallbackOptions) -> Iterable[Observation]:
    return [Observation(count, {"needs_person": person}) for person, count in _unknown.items()]


meter().create_observable_gauge(
    "regie.publisher.unknown",
    callbacks=[_look_at_unknown],
    unit="{delivery}",
    description="Deliveries of which nobody knows whether they are on the network",
)
