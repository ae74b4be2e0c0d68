"""What networks make of a channel: nothing is sent before a time, or not until a person acts.

A flag that a failure set is cleared by the proof of success, a block that grew by success as well (ADR 0018).
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from regie.publisher.events.v1.publisher_events_pb2 import ChannelBlocked, ChannelNeedsAttention, ChannelRecovered
from regie_chassis.ids import CHANNEL, show_id
from regie_chassis.outbox import fitting, stage
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

MAX_FIRST_BLOCK = timedelta(hours=1)
"""A network that asks for more is tried again after this, then after twice as long each time, until a call succeeds."""
LONG_BLOCK = timedelta(minutes=5)
"""From here on a block is an event, and stands in the timelines of what waits: the longest usual window of networks."""
MAX_MOVED = 500
"""Deliveries moved by one block or its lifting; claims pass the others over, and find them."""

FAILED_LATELY = "(blocks > 0 OR state = 'needs_attention')"
"""True of a channel with something that `prove` clears."""


class Source(StrEnum):
    """Which kind of call found that a person has to act: only the same kind proves that it works again."""

    PUBLISH = "publish"
    OBSERVE = "observe"


async def block(
    session: AsyncSession, *, channel_id: UUID, until: datetime, now: datetime, traceparent: str = ""
) -> datetime | None:
    """Sends nothing to the channel before `until`, because the network said so; for a while at most.

    Returns until when; None where there is no such channel.

    What waits is moved there, but never past its miss time: it is to be missed in time and not in silence. A backlog is
    moved a part at a time, and claims pass the rest over: it shares this transaction with other tenants' outcomes.
    """
    parameters = {"id": channel_id, "requested": until, "now": now, "first": MAX_FIRST_BLOCK}
    row = (await session.execute(_BLOCK, parameters)).one_or_none()
    if row is None:
        return None
    long = row.block_time - now >= LONG_BLOCK
    await session.execute(
        _MOVE,
        {
            "id": channel_id,
            "until": row.block_time,
            "now": now,
            "detail": block_words(row.block_time) if long else "",
            "limit": MAX_MOVED,
        },
    )
    block_time: datetime = row.block_time
    if not (long and row.is_new):
        return block_time
    message = ChannelBlocked(channel_id=show_id(CHANNEL, row.id), network=row.network)
    message.blocked_until_time.FromDatetime(row.block_time)
    message.requested_until_time.FromDatetime(until)
    stage(
        session,
        message,
        workspace_id=row.workspace_id,
        time=now,
        traceparent=traceparent,
    )
    return block_time


def block_words(until: datetime) -> str:
    """Returns what stands in the timeline of a delivery that waits for a block to end."""
    return f"the network asked to wait; the channel is tried again at {until:%Y-%m-%d %H:%M:%S} UTC"


async def go_on(session: AsyncSession, *, workspace_id: UUID, channel_id: UUID, now: datetime) -> None:
    """Lets what waits on a channel go at once: a person has connected the account anew."""
    values = {"workspace_id": workspace_id, "channel_id": channel_id, "now": now}
    await session.execute(_SEND_NOW, values)
    await session.execute(_LOOK_NOW, values)


async def need_attention(
    session: AsyncSession,
    *,
    channel_id: UUID,
    version: int,
    reason: str,
    now: datetime,
    traceparent: str,
    source: Source = Source.PUBLISH,
) -> None:
    """Says once that a person has to act, unless the credentials were renewed since."""
    rows = await session.execute(
        _NEED_ATTENTION, {"id": channel_id, "version": version, "reason": reason, "source": source}
    )
    row = rows.one_or_none()
    if row is None:
        return
    message = ChannelNeedsAttention(channel_id=show_id(CHANNEL, row.id), network=row.network, reason=reason)
    stage(
        session,
        fitting(message),
        workspace_id=row.workspace_id,
        time=now,
        traceparent=traceparent,
    )


async def prove(session: AsyncSession, channel_ids: Collection[UUID], *, source: Source, now: datetime) -> None:
    """Clears what failures left on channels at which a call of this kind has just succeeded. Most have nothing."""
    for row in await session.execute(_PROVE, {"ids": sorted(channel_ids), "source": source}):
        if row.recovered:
            message = ChannelRecovered(channel_id=show_id(CHANNEL, row.id), network=row.network)
            stage(session, message, workspace_id=row.workspace_id, time=now)


# `blocks` counts the requests since the last success that were cut: each doubles what the next may take.
_BLOCK = text(
    """
    WITH earlier AS (
        SELECT id, blocks, coalesce(block_time > :now, false) AS in_force FROM channel WHERE id = :id FOR UPDATE
    ), cut AS (
        SELECT *, :now + CAST(:first AS interval)
            * power(2, least(blocks - CAST(in_force AND blocks > 0 AS int), 5)) AS latest
        FROM earlier
    )
    UPDATE channel SET
        block_time = greatest(CASE WHEN cut.in_force THEN block_time END, least(:requested, cut.latest)),
        requested_block_time = :requested,
        blocks = channel.blocks + CAST(NOT cut.in_force AND :requested > cut.latest AS int)
    FROM cut WHERE channel.id = cut.id
    RETURNING channel.*, NOT cut.in_force AS is_new
    """
)

_MOVE = text(
    """
    WITH moved AS (
        UPDATE delivery SET act_time = least(CAST(:until AS timestamptz), miss_time)
        WHERE id IN (SELECT id FROM delivery WHERE channel_id = :id AND state = 'pending'
            AND workspace_id = (SELECT workspace_id FROM channel WHERE id = :id)
            AND act_time < least(CAST(:until AS timestamptz), miss_time)
            ORDER BY act_time LIMIT :limit FOR UPDATE SKIP LOCKED)
        RETURNING id, attempt, traceparent, cardinality(remote_ids) AS segments_out
    )
    INSERT INTO delivery_change (delivery_id, time, state, cause, attempt, detail, trace_id, segments_out)
    SELECT id, :now, 'pending', 'blocked', attempt, :detail, split_part(traceparent, '-', 2), segments_out
    FROM moved WHERE :detail <> ''
    """
)

_SEND_NOW = text(
    """
    UPDATE delivery SET act_time = :now WHERE id IN (
        SELECT id FROM delivery
        WHERE state = 'pending' AND workspace_id = :workspace_id AND act_time > :now AND channel_id = :channel_id
        FOR UPDATE SKIP LOCKED
    )
    """
)
_LOOK_NOW = text(
    """
    UPDATE delivery SET act_time = :now WHERE id IN (
        SELECT id FROM delivery
        WHERE channel_id = :channel_id AND call_end_time IS NOT NULL AND state = 'unknown' AND act_time > :now
        FOR UPDATE SKIP LOCKED
    )
    """
)

_NEED_ATTENTION = text(
    """
    UPDATE channel SET state = 'needs_attention', attention = :reason, attention_source = :source
    WHERE id = :id AND version = :version AND state = 'active' RETURNING *
    """
)

_PROVE = text(
    f"""
    WITH stale AS (
        SELECT id, state = 'needs_attention' AND attention_source IN (:source, '') AS recovered FROM channel
        WHERE id = ANY(CAST(:ids AS uuid[])) AND {FAILED_LATELY}
        ORDER BY id FOR UPDATE
    )
    UPDATE channel SET
        blocks = CASE WHEN :source = 'publish' THEN 0 ELSE blocks END,
        state = CASE WHEN recovered THEN 'active' ELSE state END,
        attention = CASE WHEN recovered THEN '' ELSE attention END,
        attention_source = CASE WHEN recovered THEN '' ELSE attention_source END
    FROM stale WHERE channel.id = stale.id
    RETURNING channel.id, channel.workspace_id, channel.network, stale.recovered
    """
)
