"""Restrictions of channels: a pause that a network asks for, and a reconnect that a person has to make.

A successful call clears both (ADR 0018).
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from regie_publisher.channels import events

MAX_FIRST_BLOCK = timedelta(hours=1)
"""The longest first pause. A network that asks for more is called again after it; without a success, the next pause may
be twice as long."""
LONG_BLOCK = timedelta(minutes=5)
"""The shortest pause with an event and an entry in the timelines of waiting deliveries: the longest usual rate limit
window of networks."""
MAX_MOVED = 500
"""Deliveries postponed by one statement; claims skip the others and find them later."""

HAS_RESTRICTIONS = "(blocks > 0 OR state = 'needs_attention')"
"""SQL condition: the channel has a restriction that `clear_restrictions` can clear."""


class Source(StrEnum):
    """The kind of call that found expired credentials; only a success of the same kind proves that they work again."""

    PUBLISH = "publish"
    OBSERVE = "observe"


async def pause_channel(
    session: AsyncSession, *, channel_id: UUID, until: datetime, now: datetime, traceparent: str = ""
) -> datetime | None:
    """Pauses the channel until `until`, the time given by the network's rate limit, or a shorter bound of ours.

    Returns the end of the pause; None if there is no such channel.

    Pending deliveries are postponed to that time, but never beyond their `miss_time`, so that a delivery that cannot
    be sent in time is still reported as missed. A backlog is postponed in parts, because this transaction also holds
    other tenants' outcomes.
    """
    parameters = {"id": channel_id, "requested": until, "now": now, "first": MAX_FIRST_BLOCK}
    row = (await session.execute(_PAUSE, parameters)).one_or_none()
    if row is None:
        return None
    block_time: datetime = row.block_time
    is_long = block_time - now >= LONG_BLOCK
    await session.execute(
        _POSTPONE,
        {
            "id": channel_id,
            "until": block_time,
            "now": now,
            "detail": pause_text(block_time) if is_long else "",
            "limit": MAX_MOVED,
        },
    )
    if is_long and row.is_new:
        events.stage_blocked(session, row, until=block_time, requested_until=until, time=now, traceparent=traceparent)
    return block_time


def pause_text(until: datetime) -> str:
    """Returns the timeline entry of a delivery that waits for the end of a pause."""
    return f"the network asked to wait; the channel is tried again at {until:%Y-%m-%d %H:%M:%S} UTC"


async def resume_channel(session: AsyncSession, *, workspace_id: UUID, channel_id: UUID, now: datetime) -> None:
    """Makes the channel's waiting deliveries and lookups due now, after a person has connected the account anew."""
    values = {"workspace_id": workspace_id, "channel_id": channel_id, "now": now}
    await session.execute(_WAKE_PENDING, values)
    await session.execute(_WAKE_UNKNOWN, values)


async def require_reconnect(
    session: AsyncSession,
    *,
    channel_id: UUID,
    version: int,
    reason: str,
    now: datetime,
    traceparent: str,
    source: Source = Source.PUBLISH,
) -> None:
    """Marks the channel as needing attention and stages the event once, unless the credentials are newer than
    `version`.
    """
    parameters = {"id": channel_id, "version": version, "reason": reason, "source": source}
    row = (await session.execute(_REQUIRE_RECONNECT, parameters)).one_or_none()
    if row is not None:
        events.stage_needs_attention(session, row, reason=reason, time=now, traceparent=traceparent)


async def clear_restrictions(
    session: AsyncSession, channel_ids: Collection[UUID], *, source: Source, now: datetime
) -> None:
    """Clears the restrictions of channels at which a call of this kind has just succeeded. Most have none."""
    for row in await session.execute(_CLEAR, {"ids": sorted(channel_ids), "source": source}):
        if row.recovered:
            events.stage_recovered(session, row, time=now)


# `blocks` counts the requests since the last success that were cut: each doubles the longest pause of the next.
_PAUSE = text(
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

_POSTPONE = text(
    """
    WITH moved AS (
        UPDATE delivery SET next_action_time = least(CAST(:until AS timestamptz), miss_time)
        WHERE id IN (SELECT id FROM delivery WHERE channel_id = :id AND state = 'pending'
            AND workspace_id = (SELECT workspace_id FROM channel WHERE id = :id)
            AND next_action_time < least(CAST(:until AS timestamptz), miss_time)
            ORDER BY next_action_time LIMIT :limit FOR UPDATE SKIP LOCKED)
        RETURNING id, attempt_number, traceparent, cardinality(remote_ids) AS segments_out
    )
    INSERT INTO delivery_change (delivery_id, time, state, cause, attempt_number, detail, trace_id, segments_out)
    SELECT id, :now, 'pending', 'blocked', attempt_number, :detail, split_part(traceparent, '-', 2), segments_out
    FROM moved WHERE :detail <> ''
    """
)

_WAKE_PENDING = text(
    """
    UPDATE delivery SET next_action_time = :now WHERE id IN (
        SELECT id FROM delivery
        WHERE state = 'pending' AND workspace_id = :workspace_id AND next_action_time > :now
          AND channel_id = :channel_id
        FOR UPDATE SKIP LOCKED
    )
    """
)
_WAKE_UNKNOWN = text(
    """
    UPDATE delivery SET next_action_time = :now WHERE id IN (
        SELECT id FROM delivery
        WHERE channel_id = :channel_id AND call_end_time IS NOT NULL AND state = 'unknown' AND next_action_time > :now
        FOR UPDATE SKIP LOCKED
    )
    """
)

_REQUIRE_RECONNECT = text(
    """
    UPDATE channel SET state = 'needs_attention', attention = :reason, attention_source = :source
    WHERE id = :id AND version = :version AND state = 'active' RETURNING *
    """
)

_CLEAR = text(
    f"""
    WITH stale AS (
        SELECT id, state = 'needs_attention' AND attention_source IN (:source, '') AS recovered FROM channel
        WHERE id = ANY(CAST(:ids AS uuid[])) AND {HAS_RESTRICTIONS}
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
