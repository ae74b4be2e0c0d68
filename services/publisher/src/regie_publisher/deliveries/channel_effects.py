"""Applies the effects of outcomes on channels: cleared restrictions, pauses, and expired credentials."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from regie_publisher.channels import restrictions
from regie_publisher.deliveries.delivery import Cause, RecordedOutcome, State


async def update_channels(
    session: AsyncSession, recorded: Sequence[RecordedOutcome], restricted: Collection[UUID], now: datetime
) -> None:
    """Updates each channel once, in the order of ids, so that two batches never wait for one another.

    `restricted` are the deliveries whose channels have restrictions to clear; most have none.
    """
    succeeded = [one.delivery for one in recorded if one.outcome.remote and one.outcome.cause is Cause.WORKER]
    if proven := {delivery.channel_id for delivery in succeeded if delivery.id in restricted}:
        await restrictions.clear_restrictions(session, proven, source=restrictions.Source.PUBLISH, now=now)
    await _pause(session, [one for one in recorded if one.outcome.block_until is not None], now)
    expired = {one.delivery.channel_id: one for one in recorded if one.outcome.expired_version is not None}
    for channel_id in sorted(expired):
        last = expired[channel_id]
        await restrictions.require_reconnect(
            session,
            channel_id=channel_id,
            version=last.outcome.expired_version or 0,
            reason=last.outcome.message,
            now=now,
            traceparent=last.traceparent,
        )


async def _pause(session: AsyncSession, recorded: Sequence[RecordedOutcome], now: datetime) -> None:
    until: dict[UUID, datetime] = {}
    for one in sorted(recorded, key=lambda one: one.outcome.block_until or now):
        until[one.delivery.channel_id] = one.outcome.block_until or now
    limited_lookups: dict[UUID, list[UUID]] = {}
    for one in recorded:
        if one.outcome.state is State.UNKNOWN:
            limited_lookups.setdefault(one.delivery.channel_id, []).append(one.delivery.id)
    for channel_id in sorted(until):
        block_time = await restrictions.pause_channel(session, channel_id=channel_id, until=until[channel_id], now=now)
        if channel_id in limited_lookups and block_time is not None:
            values = {"channel_id": channel_id, "until": block_time, "limited": limited_lookups[channel_id]}
            await session.execute(_POSTPONE_LOOKUPS, values)


# A network that limits one lookup limits every lookup at the account. The limited lookups themselves have recorded the
# time that the network asked for, which may be later than the end of the channel's pause.
_POSTPONE_LOOKUPS = text(
    """
    UPDATE delivery SET next_action_time = :until WHERE id IN (
        SELECT id FROM delivery
        WHERE state IN ('processing', 'unknown') AND state = 'unknown' AND channel_id = :channel_id
          AND (next_action_time < :until OR id = ANY(CAST(:limited AS uuid[])))
        FOR UPDATE SKIP LOCKED
    )
    """
)
