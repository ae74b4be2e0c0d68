"""Scheduled collections: one row for each published post, claimed by due time under a fence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from regie_networks.draft import Remote
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from regie_publisher.fairness.due_work import DueWork, fair_lookup
from regie_publisher.fairness.slots import Slots

PLAN = (
    *(timedelta(seconds=seconds) for seconds in (2, 10, 30)),
    *(timedelta(minutes=minutes) for minutes in (1, 5, 15)),
    *(timedelta(hours=hours) for hours in (1, 6)),
    *(timedelta(days=days) for days in range(1, 31)),
)
"""The ages of a post at which its numbers are read."""
LEASE = timedelta(seconds=60)
MAX_LOOKUP = 500
"""Collections of a workspace that one lookup returns."""


@dataclass(frozen=True, slots=True)
class FirstCollection:
    """A published post whose collections are to be scheduled; `remote` is its first segment."""

    delivery_id: UUID
    workspace_id: UUID
    post_id: UUID
    channel_id: UUID
    network: str
    remote: Remote
    traceparent: str


@dataclass(frozen=True, slots=True)
class ScheduledCollection:
    """A post whose collection is due, claimed by one worker until the lease ends."""

    delivery_id: UUID
    workspace_id: UUID
    post_id: UUID
    channel_id: UUID
    network: str
    remote: Remote
    publish_time: datetime
    failures: int
    misses: int
    fence: int
    traceparent: str


@dataclass(frozen=True, slots=True)
class NextCollection:
    """The time of a post's next collection, None at the end of its plan."""

    collection: ScheduledCollection
    next_action_time: datetime | None
    failures: int
    misses: int = 0


def next_collection_time(publish_time: datetime, now: datetime) -> datetime | None:
    """Returns the first time of the plan after now: missed collections are skipped."""
    return next((publish_time + age for age in PLAN if publish_time + age > now), None)


async def schedule_collections(session: AsyncSession, posts: Sequence[FirstCollection], *, now: datetime) -> None:
    """Schedules the collections of published posts; posts without a remote id have none. Repeatable."""
    readable = [post for post in posts if post.remote.id]
    if not readable:
        return
    await session.execute(
        _SCHEDULE,
        {
            "now": now,
            "next_action_time": now + PLAN[0],
            "delivery_ids": [post.delivery_id for post in readable],
            "workspace_ids": [post.workspace_id for post in readable],
            "post_ids": [post.post_id for post in readable],
            "channel_ids": [post.channel_id for post in readable],
            "networks": [post.network for post in readable],
            "remote_ids": [post.remote.id for post in readable],
            "remote_urls": [post.remote.url for post in readable],
            "traceparents": [post.traceparent for post in readable],
        },
    )


async def find_due_collections(session: AsyncSession, *, slots: Slots, now: datetime) -> list[DueWork]:
    """Returns due collections, the oldest of each workspace first, and locks none of them."""
    rows = await session.execute(_FIND_DUE, slots.lookup_parameters(now, limit=MAX_LOOKUP))
    return [DueWork(*row) for row in rows]


def by_channel(due: Sequence[DueWork], limit: int) -> list[list[DueWork]]:
    """Returns the collections of each channel that one call reads, the oldest first."""
    chunks: dict[UUID, list[DueWork]] = {}
    for one in due:
        of_channel = chunks.setdefault(one.channel_id, [])
        if len(of_channel) < limit:
            of_channel.append(one)
    return list(chunks.values())


async def claim_collections(
    session: AsyncSession, due: Sequence[DueWork], *, now: datetime
) -> list[ScheduledCollection]:
    """Claims those of the collections that are still due; a dead worker's claims expire after a minute."""
    if not due:
        return []
    rows = await session.execute(_CLAIM, {"ids": [one.id for one in due], "now": now, "lease": now + LEASE})
    return [_to_collection(row) for row in rows]


async def reschedule(session: AsyncSession, nexts: Sequence[NextCollection]) -> set[UUID]:
    """Schedules the next collections. Returns the deliveries whose collection was still claimed."""
    rows = await session.execute(
        _RESCHEDULE,
        {
            "ids": [one.collection.delivery_id for one in nexts],
            "fences": [one.collection.fence for one in nexts],
            "next_action_times": [one.next_action_time for one in nexts],
            "failures": [one.failures for one in nexts],
            "misses": [one.misses for one in nexts],
        },
    )
    return set(rows.scalars())


def _to_collection(row: Any) -> ScheduledCollection:
    return ScheduledCollection(
        row.delivery_id,
        row.workspace_id,
        row.post_id,
        row.channel_id,
        row.network,
        Remote(row.remote_id, row.remote_url),
        row.publish_time,
        row.failures,
        row.misses,
        row.fence,
        row.traceparent,
    )


_SCHEDULE = text(
    """
    INSERT INTO scheduled_collection (delivery_id, workspace_id, post_id, channel_id, network, remote_id, remote_url,
        publish_time, next_action_time, traceparent)
    SELECT delivery_id, workspace_id, post_id, channel_id, network, remote_id, remote_url, :now, :next_action_time,
        traceparent
    FROM unnest(
        CAST(:delivery_ids AS uuid[]), CAST(:workspace_ids AS uuid[]), CAST(:post_ids AS uuid[]),
        CAST(:channel_ids AS uuid[]), CAST(:networks AS text[]), CAST(:remote_ids AS text[]),
        CAST(:remote_urls AS text[]), CAST(:traceparents AS text[])
    ) AS p (delivery_id, workspace_id, post_id, channel_id, network, remote_id, remote_url, traceparent)
    ON CONFLICT DO NOTHING
    """
)

_FIND_DUE = text(fair_lookup(table="scheduled_collection", waiting="next_action_time IS NOT NULL", key="delivery_id"))

_CLAIM = text(
    """
    UPDATE scheduled_collection AS c SET fence = c.fence + 1, next_action_time = :lease
    FROM (
        SELECT delivery_id FROM scheduled_collection
        WHERE delivery_id = ANY(CAST(:ids AS uuid[])) AND next_action_time <= :now
        ORDER BY delivery_id FOR UPDATE SKIP LOCKED
    ) AS due
    WHERE c.delivery_id = due.delivery_id
    RETURNING c.*
    """
)

_RESCHEDULE = text(
    """
    UPDATE scheduled_collection AS c SET next_action_time = n.next_action_time, failures = n.failures, misses = n.misses
    FROM unnest(CAST(:ids AS uuid[]), CAST(:fences AS bigint[]), CAST(:next_action_times AS timestamptz[]),
        CAST(:failures AS int[]), CAST(:misses AS int[])) AS n (delivery_id, fence, next_action_time, failures, misses)
    WHERE c.delivery_id = n.delivery_id AND c.fence = n.fence
    RETURNING c.delivery_id
    """
)
