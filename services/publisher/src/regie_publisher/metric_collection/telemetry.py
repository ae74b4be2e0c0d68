"""Counts and logs of metric collection: one function for each fact."""

from __future__ import annotations

from uuid import UUID

import structlog
from regie.ids.v1.prefixes import CHANNEL, DELIVERY
from regie_chassis.boundary.ids import show_id
from regie_chassis.boundary.telemetry import meter
from regie_chassis.data.database import after_commit
from sqlalchemy.ext.asyncio import AsyncSession

log = structlog.get_logger()

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


def count_observed(network: str, posts: int) -> None:
    """Counts posts with collected metrics."""
    _observed.add(posts, {"network": network})


def count_left_out(network: str, values: int) -> None:
    """Counts values that a network gave and that cannot be true."""
    if values:
        _left_out.add(values, {"network": network})


def count_unread(session: AsyncSession, network: str, posts: int) -> None:
    """Counts posts with a failed collection, after the commit."""
    after_commit(session, lambda: _unread.add(posts, {"network": network}))


def log_given_up(session: AsyncSession, delivery_id: UUID, channel_id: UUID, reason: str) -> None:
    """Logs the end of a post's failing collections, after the commit."""
    record = {"delivery_id": show_id(DELIVERY, delivery_id), "channel_id": show_id(CHANNEL, channel_id)}
    after_commit(session, lambda: log.warning("observe.given_up", reason=reason, **record))
