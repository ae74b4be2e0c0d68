"""Subscriptions of metrics."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from regie.publisher.events.v1.publisher_events_pb2 import PostMetricsObserved
from regie_chassis.events.consumer import Subscriptions
from regie_chassis.events.messaging import Event
from regie_chassis.process.clock import Clock
from sqlalchemy.ext.asyncio import AsyncSession

from regie_metrics.observations import ingestion


def subscriptions(clock: Clock, *, retention: timedelta) -> Subscriptions:
    """Returns the map of events to handlers; this edge asks the clock for them."""

    async def on_post_metrics_observed(session: AsyncSession, events: Sequence[Event[PostMetricsObserved]]) -> None:
        await ingestion.on_post_metrics_observed(session, events, now=clock.now(), retention=retention)

    return {PostMetricsObserved: on_post_metrics_observed}
