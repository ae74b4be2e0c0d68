"""Builds and stages the events of metric collection."""

from __future__ import annotations

from datetime import datetime

import structlog
from regie.ids.v1.prefixes import CHANNEL, DELIVERY, POST
from regie.publisher.events.v1.publisher_events_pb2 import EngagementObserved, PostMetricsObserved, PostRemoved
from regie_chassis.boundary.ids import show_id
from regie_chassis.boundary.text import storable
from regie_chassis.boundary.timestamps import timestamp
from regie_chassis.events.outbox import fits, fitting, stage
from regie_networks.observation import Engagement, Observation
from sqlalchemy.ext.asyncio import AsyncSession

from regie_publisher.metric_collection.schedule import ScheduledCollection

log = structlog.get_logger()


def stage_metrics(
    session: AsyncSession,
    collection: ScheduledCollection,
    observation: Observation,
    *,
    time: datetime,
    traceparent: str,
) -> None:
    """Stages PostMetricsObserved in the trace of the delivery, if it has one.

    A message that is too large is logged and left out: one network's numbers must not fail other posts.
    """
    message = PostMetricsObserved(
        delivery_id=show_id(DELIVERY, collection.delivery_id),
        post_id=show_id(POST, collection.post_id),
        channel_id=show_id(CHANNEL, collection.channel_id),
        network=collection.network,
        observe_time=timestamp(time),
        values=dict(observation.values),
    )
    if not fits(message):
        log.error("observe.too_large", delivery=message.delivery_id, bytes=message.ByteSize())
        return
    parent = collection.traceparent or traceparent
    stage(session, message, workspace_id=collection.workspace_id, time=time, traceparent=parent)


def stage_engagement(
    session: AsyncSession, collection: ScheduledCollection, engagement: Engagement, *, time: datetime
) -> None:
    """Stages EngagementObserved for a person's reaction to the post."""
    message = EngagementObserved(
        post_id=show_id(POST, collection.post_id),
        channel_id=show_id(CHANNEL, collection.channel_id),
        network=collection.network,
        actor_id=storable(engagement.actor_id),
        actor_handle=storable(engagement.actor_handle),
        kind=engagement.kind,
        observe_time=timestamp(time),
    )
    stage(
        session,
        fitting(message),
        workspace_id=collection.workspace_id,
        time=time,
        traceparent=collection.traceparent,
    )


def stage_removed(session: AsyncSession, collection: ScheduledCollection, *, time: datetime) -> None:
    """Stages PostRemoved."""
    message = PostRemoved(
        delivery_id=show_id(DELIVERY, collection.delivery_id),
        post_id=show_id(POST, collection.post_id),
        channel_id=show_id(CHANNEL, collection.channel_id),
        network=collection.network,
        remote_id=collection.remote.id,
        remote_url=collection.remote.url,
        observe_time=timestamp(time),
    )
    stage(session, message, workspace_id=collection.workspace_id, time=time, traceparent=collection.traceparent)
