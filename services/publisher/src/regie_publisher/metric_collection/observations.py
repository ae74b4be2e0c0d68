"""Records observations: schedules the next collections and stages the events."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from regie_chassis.boundary.text import storable
from regie_chassis.data.bulk import Columns
from regie_networks.observation import Observation
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from regie_publisher.channels import restrictions
from regie_publisher.metric_collection.events import stage_engagement, stage_metrics, stage_removed
from regie_publisher.metric_collection.schedule import (
    NextCollection,
    ScheduledCollection,
    next_collection_time,
    reschedule,
)

GONE_AFTER = 3
"""Collections in a row without a post after which it counts as deleted; failed collections do not count."""
GONE_AGE = timedelta(hours=1)
"""The least age of a post that counts as deleted: a network's reads may lag behind its writes."""

REMOVED = "the network no longer has the post; it was deleted there, and its numbers are read no more"

Observed = tuple[ScheduledCollection, Observation]


async def record_observations(
    session: AsyncSession,
    collections: Sequence[ScheduledCollection],
    observations: Sequence[Observation],
    *,
    now: datetime,
    traceparent: str,
) -> None:
    """Records the results of collections that are still claimed. A post without an observation was missing.

    `traceparent` is the trace of the collection, for posts without a trace of their own.
    """
    by_remote = {observation.remote_id: observation for observation in observations}
    claimed = await reschedule(session, [_next(one, one.remote.id in by_remote, now) for one in collections])
    current = [one for one in collections if one.delivery_id in claimed]
    observed = [(one, by_remote[one.remote.id]) for one in current if one.remote.id in by_remote]
    working = {collection.channel_id for collection, _ in observed}
    await restrictions.clear_restrictions(session, working, source=restrictions.Source.OBSERVE, now=now)
    for collection in current:
        if collection.remote.id not in by_remote and _is_gone(collection, now):
            await session.execute(_RECORD_REMOVAL, {"id": collection.delivery_id, "now": now, "detail": REMOVED})
            stage_removed(session, collection, time=now)
    for collection, observation in observed:
        stage_metrics(session, collection, observation, time=now, traceparent=traceparent)
    await _record_engagements(session, observed, now)


def _next(collection: ScheduledCollection, seen: bool, now: datetime) -> NextCollection:
    gone = not seen and _is_gone(collection, now)
    next_time = None if gone else next_collection_time(collection.publish_time, now)
    return NextCollection(collection, next_time, 0, 0 if seen else collection.misses + 1)


def _is_gone(collection: ScheduledCollection, now: datetime) -> bool:
    """Returns whether one more collection without the post proves that it was deleted."""
    return collection.misses + 1 >= GONE_AFTER and now >= collection.publish_time + GONE_AGE


async def _record_engagements(session: AsyncSession, observed: Sequence[Observed], now: datetime) -> None:
    """Stages each person's reaction to a post once, however often it is observed."""
    seen = {
        (collection.channel_id, collection.post_id, engagement.kind, storable(engagement.actor_id)): (
            collection,
            engagement,
        )
        for collection, observation in observed
        for engagement in observation.engagements
    }
    if not seen:
        return
    keys = sorted(seen)
    for row in await session.execute(_INSERT_ENGAGEMENTS, _ENGAGEMENTS.parameters(keys)):
        collection, engagement = seen[(row.channel_id, row.post_id, row.kind, row.actor_id)]
        stage_engagement(session, collection, engagement, time=now)


_ENGAGEMENTS = Columns(channel_id="uuid", post_id="uuid", kind="text", actor_id="text")

_INSERT_ENGAGEMENTS = text(
    f"""
    INSERT INTO engagement ({_ENGAGEMENTS.names}) SELECT {_ENGAGEMENTS.names} FROM {_ENGAGEMENTS.unnest}
    ON CONFLICT DO NOTHING RETURNING {_ENGAGEMENTS.names}
    """
)

_RECORD_REMOVAL = text(
    """
    INSERT INTO delivery_change (delivery_id, time, state, cause, attempt_number, detail, trace_id, segments_out)
    SELECT id, :now, 'removed', 'observe', attempt_number, :detail, split_part(traceparent, '-', 2),
        cardinality(remote_ids)
    FROM delivery WHERE id = :id
    """
)
