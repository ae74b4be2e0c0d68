"""What the publisher counts and says about itself: one function for each fact."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from opentelemetry.metrics import CallbackOptions, Observation
from regie_chassis.database import after_commit
from regie_chassis.telemetry import meter
from sqlalchemy.ext.asyncio import AsyncSession

from regie_publisher.deliveries.delivery import Note

_outcomes = meter().create_counter(
    "regie.publisher.outcomes", unit="{delivery}", description="Changes of deliveries by network and new state"
)
_observed = meter().create_counter(
    "regie.publisher.observed", unit="{post}", description="Posts whose numbers were read, by network"
)
_unknown = {False: 0, True: 0}


def count_outcomes(session: AsyncSession, notes: Sequence[Note]) -> None:
    """Counts what was recorded, once it is durable."""
    counted = Counter((note.held.network, note.outcome.state.value) for note in notes)

    def add() -> None:
        for (network, state), count in counted.items():
            _outcomes.add(count, {"network": network, "state": state})

    after_commit(session, add)


def count_observed(network: str, posts: int) -> None:
    """Counts posts whose numbers came in."""
    _observed.add(posts, {"network": network})


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
