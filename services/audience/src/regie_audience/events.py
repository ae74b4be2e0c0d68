"""Subscriptions of the audience."""

from __future__ import annotations

from collections.abc import Sequence

from regie.publisher.events.v1.publisher_events_pb2 import EngagementObserved
from regie_chassis.boundary.ids import new_id
from regie_chassis.events.consumer import Subscriptions
from regie_chassis.events.messaging import Event
from regie_chassis.process.clock import Clock
from sqlalchemy.ext.asyncio import AsyncSession

from regie_audience import engagements


def subscriptions(clock: Clock) -> Subscriptions:
    """Returns the map of events to handlers; this edge asks the clock and makes ids for them."""

    async def on_engagement_observed(session: AsyncSession, events: Sequence[Event[EngagementObserved]]) -> None:
        await engagements.on_engagement_observed(session, events, new_id=new_id, now=clock.now())

    return {EngagementObserved: on_engagement_observed}
