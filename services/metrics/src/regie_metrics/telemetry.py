"""The business facts that metrics reports about itself, each declared once."""

from __future__ import annotations

from uuid import UUID

import structlog
from regie_chassis.boundary.telemetry import meter

log = structlog.get_logger()
_ingested = meter().create_counter(
    "regie.metrics.ingested", unit="{observation}", description="Observations taken in, repeated ones included"
)
_unnamed = meter().create_counter(
    "regie.metrics.unnamed", unit="{observation}", description="Numbers kept under a network's own name"
)
_refused = meter().create_counter(
    "regie.metrics.refused", unit="{observation}", description="Numbers left out because they cannot be true"
)


def observations_ingested(count: int) -> None:
    """Numbers of posts were written."""
    _ingested.add(count)


def metric_unnamed(name: str, network: str) -> None:
    """A network's number has a name outside the closed list, and was kept under it."""
    _unnamed.add(1, {"network": network[:40]})
    log.debug("metrics.unnamed", metric=name[:80], network=network[:40])


def number_refused(event_id: UUID, name: str, network: str, problem: str) -> None:
    """One number of a reading was left out: its name or its value cannot be true, or there are too many."""
    _refused.add(1, {"network": network[:40], "problem": problem})
    log.warning(
        "metrics.number_refused", event_id=str(event_id), metric=name[:80], network=network[:40], problem=problem
    )


def reading_too_late(event_id: UUID, network: str) -> None:
    """A whole reading was left out, because it is older than the life of observations."""
    _refused.add(1, {"network": network[:40], "problem": "too_late"})
    log.warning("metrics.reading_too_late", event_id=str(event_id), network=network[:40])


def partition_made(name: str) -> None:
    """A day's partition exists from now on."""
    log.info("metrics.partition_made", partition=name)


def partition_dropped(name: str) -> None:
    """A day's observations have passed their retention and are gone."""
    log.info("metrics.partition_dropped", partition=name)
