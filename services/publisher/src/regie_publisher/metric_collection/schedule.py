"""Scheduled collections: one row for each published post, claimed by due time under a fence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from regie_chassis.data.bulk import Columns
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
    rows = [
        (
            post.delivery_id,
            post.workspace_id,
            post.post_id,
            post.channel_id,
            post.network,
            post.remote.id,
            post.remote.url,
            post.traceparent,
        )
        for post in readable
    ]
    await session.execute(_SCHEDULE, {"now": now, "next_action_time": now + PLAN[0], **_POSTS.parameters(rows)})


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
    rows = [
        (one.collection.delivery_id, one.collection.fence, one.next_action_time, one.failures, one.misses)
        for one in nexts
    ]
    return set((await session.execute(_RESCHEDULE, _NEXT.parameters(rows))).scalars())


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


_POSTS = Columns(
    delivery_id="uuid",
    workspace_id="uuid",
    post_id="uuid",
    channel_id="uuid",
    network="text",
    remote_id="text",
    remote_url="text",
    traceparent="text",
)

_SCHEDULE = text(
    f"""
    INSERT INTO scheduled_collection ({_POSTS.names}, publish_time, next_action_time)
    SELECT {_POSTS.names}, :now, :next_action_time FROM {_POSTS.unnest}
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

_NEXT = Columns(
    "next", delivery_id="uuid", fence="bigint", next_action_time="timestamptz", failures="int", misses="int"
)

_RESCHEDULE = text(
    f"""
    UPDATE scheduled_collection AS c
    SET next_action_time = next.next_action_time, failures = next.failures, misses = next.misses
    FROM {_NEXT.unnest}
    WHERE c.delivery_id = next.delivery_id AND c.fence = next.fence
    RETURNING c.delivery_id
    """
)
