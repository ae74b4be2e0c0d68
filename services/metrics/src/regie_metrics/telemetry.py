"""The business facts that metrics reports about itself, each declared once."""

from __future__ import annotations

import structlog
from regie_chassis.telemetry import meter

log = structlog.get_logger()
_ingested = meter().create_counter(
    "regie.metrics.ingested", unit="{observation}", description="Observations taken in, repeated ones included"
)
_unnamed = meter().create_counter(
    "regie.metrics.unnamed", unit="{observation}", description="Numbers left out because their name has no meaning here"
)


def observations_ingested(count: int) -> None:
    """Numbers of posts were written."""
    _ingested.add(count)


def metric_unnamed(name: str, network: str) -> None:
    """A network's number has a name outside the closed list."""
    _unnamed.add(1, {"network": network[:40]})
    log.debug("metrics.unnamed", metric=name[:80], network=network[:40])


def partition_made(name: str) -> None:
    """A day's partition exists from now on."""
    log.info("metrics.partition_made", partition=name)


def partition_dropped(name: str) -> None:
    """A day's observations have passed their retention and are gone."""
    log.info("metrics.partition_dropped", partition=name)
