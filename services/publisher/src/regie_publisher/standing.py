"""What networks make of a channel: nothing is sent before a time, or not until a person acts."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from regie.publisher.events.v1.publisher_events_pb2 import ChannelNeedsAttention
from regie_chassis.ids import CHANNEL, show_id
from regie_chassis.outbox import fitting, stage
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession


async def block(session: AsyncSession, *, channel_id: UUID, until: datetime) -> None:
    """Sends nothing to the channel before `until`, because the network said so.

    What waits is moved there, but never past its miss time: it is to be missed in time and not in silence.
    """
    parameters = {"id": channel_id, "until": until}
    await session.execute(
        text("UPDATE channel SET block_time = greatest(coalesce(block_time, :until), :until) WHERE id = :id"),
        parameters,
    )
    await session.execute(
        text(
            "UPDATE delivery SET act_time = least(CAST(:until AS timestamptz), miss_time)"
            " WHERE id IN (SELECT id FROM delivery WHERE channel_id = :id AND state = 'pending'"
            "   AND act_time < least(CAST(:until AS timestamptz), miss_time) FOR UPDATE SKIP LOCKED)"
        ),
        parameters,
    )


async def need_attention(
    session: AsyncSession, *, channel_id: UUID, version: int, reason: str, now: datetime, traceparent: str
) -> None:
    """Says once that a person has to act, unless the credentials were renewed since."""
    rows = await session.execute(
        text(
            "UPDATE channel SET state = 'needs_attention', attention = :reason"
            " WHERE id = :id AND version = :version AND state = 'active' RETURNING *"
        ),
        {"id": channel_id, "version": version, "reason": reason},
    )
    row = rows.one_or_none()
    if row is None:
        return
    message = ChannelNeedsAttention(channel_id=show_id(CHANNEL, row.id), network=row.network, reason=reason)
    stage(
        session,
        fitting(message),
        workspace_id=row.workspace_id,
        aggregate_id=str(row.id),
        time=now,
        traceparent=traceparent,
    )
