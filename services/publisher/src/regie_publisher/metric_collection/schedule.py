"""The readings that are planned: one row for each published post, claimed by due time under a fence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from regie_networks.draft import Remote
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from regie_publisher.deliveries.delivery import Note
from regie_publisher.shares import Due, Slots, due_columns, due_of

PLAN = (
    *(timedelta(seconds=seconds) for seconds in (2, 10, 30)),
    *(timedelta(minutes=minutes) for minutes in (1, 5, 15)),
    *(timedelta(hours=hours) for hours in (1, 6)),
    *(timedelta(days=days) for days in range(1, 31)),
)
"""How long after publication the numbers are read."""
LEASE = timedelta(seconds=60)
LIMIT = 500
"""Readings of a workspace that are looked at at once."""


@dataclass(frozen=True, slots=True)
class Poll:
    """A post whose numbers are due, in the hands of one worker until the lease ends."""

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
class NextReading:
    """When a poll is due again, None when its plan is over."""

    poll: Poll
    act_time: datetime | None
    failures: int
    misses: int = 0


async def plan(session: AsyncSession, published: Sequence[tuple[Note, Remote | None]], *, now: datetime) -> None:
    """Plans the readings of posts that are being recorded, each with its first segment. Repeatable."""
    known = [(note, first) for note, first in published if first is not None and first.id]
    if not known:
        return
    await session.execute(
        _PLAN,
        {
            "now": now,
            "act_time": now + PLAN[0],
            "delivery_ids": [note.held.id for note, _ in known],
            "workspace_ids": [note.held.workspace_id for note, _ in known],
            "post_ids": [note.held.post_id for note, _ in known],
            "channel_ids": [note.held.channel_id for note, _ in known],
            "networks": [note.held.network for note, _ in known],
            "remote_ids": [first.id for _, first in known],
            "remote_urls": [first.url for _, first in known],
            "traceparents": [note.traceparent for note, _ in known],
        },
    )


async def find_polls(session: AsyncSession, *, slots: Slots, now: datetime) -> list[Due]:
    """Returns readings that are due, the oldest of each workspace, and locks none of them."""
    rows = await session.execute(_FIND, {**due_columns(slots, now), "most": LIMIT})
    return [due_of(row) for row in rows]


def by_channel(due: Sequence[Due], chunk: int) -> list[list[Due]]:
    """Returns for each channel what is read of it in one call, the oldest first."""
    chunks: dict[UUID, list[Due]] = {}
    for one in due:
        of_channel = chunks.setdefault(one.channel_id, [])
        if len(of_channel) < chunk:
            of_channel.append(one)
    return list(chunks.values())


async def claim_polls(session: AsyncSession, due: Sequence[Due], *, now: datetime) -> list[Poll]:
    """Takes these readings where they are still due; whoever dies with them lets them go after a minute."""
    if not due:
        return []
    rows = await session.execute(_CLAIM, {"ids": [one.id for one in due], "now": now, "lease": now + LEASE})
    return [_poll(row) for row in rows]


def _poll(row: Any) -> Poll:
    return Poll(
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


async def reschedule(session: AsyncSession, nexts: Sequence[NextReading]) -> set[UUID]:
    """Plans the next readings. Returns the deliveries whose reading was still held."""
    rows = await session.execute(
        _RESCHEDULE,
        {
            "ids": [one.poll.delivery_id for one in nexts],
            "fences": [one.poll.fence for one in nexts],
            "act_times": [one.act_time for one in nexts],
            "failures": [one.failures for one in nexts],
            "misses": [one.misses for one in nexts],
        },
    )
    return set(rows.scalars())


_PLAN = text(
    """
    INSERT INTO poll (delivery_id, workspace_id, post_id, channel_id, network, remote_id, remote_url, publish_time,
        act_time, traceparent)
    SELECT delivery_id, workspace_id, post_id, channel_id, network, remote_id, remote_url, :now, :act_time, traceparent
    FROM unnest(
        CAST(:delivery_ids AS uuid[]), CAST(:workspace_ids AS uuid[]), CAST(:post_ids AS uuid[]),
        CAST(:channel_ids AS uuid[]), CAST(:networks AS text[]), CAST(:remote_ids AS text[]),
        CAST(:remote_urls AS text[]), CAST(:traceparents AS text[])
    ) AS p (delivery_id, workspace_id, post_id, channel_id, network, remote_id, remote_url, traceparent)
    ON CONFLICT DO NOTHING
    """
)

_FIND = text(
    """
    WITH RECURSIVE space AS (
        (SELECT workspace_id FROM poll WHERE act_time IS NOT NULL ORDER BY workspace_id LIMIT 1)
        UNION ALL
        SELECT (
            SELECT p.workspace_id FROM poll AS p
            WHERE p.act_time IS NOT NULL AND p.workspace_id > space.workspace_id ORDER BY p.workspace_id LIMIT 1
        ) FROM space WHERE space.workspace_id IS NOT NULL
    ), full_peer AS (
        SELECT * FROM unnest(CAST(:full_spaces AS uuid[]), CAST(:full_hosts AS text[])) AS f (workspace_id, host)
    )
    SELECT found.* FROM space CROSS JOIN LATERAL (
        SELECT p.delivery_id AS id, p.workspace_id, p.channel_id, coalesce(channel.host, '') AS host, p.act_time,
            false AS late
        FROM (
            SELECT delivery_id, workspace_id, channel_id, act_time FROM poll
            WHERE workspace_id = space.workspace_id AND act_time <= :now ORDER BY act_time LIMIT :scan
        ) AS p
        LEFT JOIN LATERAL (
            SELECT split_part(server_url, '/', 3) AS host FROM channel WHERE channel.id = p.channel_id
        ) AS channel ON true
        WHERE p.channel_id <> ALL(CAST(:full_channels AS uuid[]))
            AND NOT EXISTS (
                SELECT FROM full_peer AS f WHERE f.workspace_id = p.workspace_id AND f.host = channel.host
            )
        ORDER BY p.act_time LIMIT :most
    ) AS found
    WHERE space.workspace_id <> ALL(CAST(:full_workspaces AS uuid[]))
    """
)

_CLAIM = text(
    """
    UPDATE poll SET fence = poll.fence + 1, act_time = :lease
    FROM (
        SELECT delivery_id FROM poll WHERE delivery_id = ANY(CAST(:ids AS uuid[])) AND act_time <= :now
        ORDER BY delivery_id FOR UPDATE SKIP LOCKED
    ) AS due
    WHERE poll.delivery_id = due.delivery_id
    RETURNING poll.*
    """
)

_RESCHEDULE = text(
    """
    UPDATE poll SET act_time = n.act_time, failures = n.failures, misses = n.misses
    FROM unnest(CAST(:ids AS uuid[]), CAST(:fences AS bigint[]), CAST(:act_times AS timestamptz[]),
        CAST(:failures AS int[]), CAST(:misses AS int[])) AS n (delivery_id, fence, act_time, failures, misses)
    WHERE poll.delivery_id = n.delivery_id AND poll.fence = n.fence
    RETURNING poll.delivery_id
    """
)
