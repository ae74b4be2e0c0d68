"""Writes within an attempt: the mark before a call, and the handles of prepared parts. Both renew the lease.

Every write carries the fence of the claim. A write with an outdated fence changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from regie_chassis.boundary.text import storable
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from regie_publisher.deliveries.delivery import LEASE, ClaimedDelivery


async def mark_publishing(session: AsyncSession, claimed: Sequence[ClaimedDelivery], *, now: datetime) -> list[bool]:
    """Marks deliveries whose call may begin from now on, and renews their leases. Returns for each whether it may."""
    in_order = sorted(claimed, key=lambda delivery: delivery.id)
    rows = await session.execute(
        _MARK,
        {
            "ids": [delivery.id for delivery in in_order],
            "fences": [delivery.fence for delivery in in_order],
            "now": now,
            "lease": now + LEASE,
        },
    )
    marked: set[UUID] = set(rows.scalars())
    return [delivery.id in marked for delivery in claimed]


async def save_handle(
    session: AsyncSession, delivery: ClaimedDelivery, name: str, value: str, *, now: datetime
) -> bool:
    """Saves a handle that the network gave in `prepare`, and renews the lease. Returns False if the lease is lost."""
    rows = await session.execute(
        _SAVE_HANDLE,
        {
            "id": delivery.id,
            "fence": delivery.fence,
            "name": storable(name),
            "value": storable(value),
            "lease": now + LEASE,
        },
    )
    return rows.scalar_one_or_none() is not None


_MARK = text(
    """
    WITH marked AS (
        UPDATE delivery AS d SET state = 'publishing', next_action_time = :lease
        FROM unnest(CAST(:ids AS uuid[]), CAST(:fences AS bigint[])) AS h (id, fence)
        WHERE d.id = h.id AND d.fence = h.fence AND d.state IN ('claimed', 'publishing')
        RETURNING d.id, d.attempt_number, d.traceparent, cardinality(d.remote_ids) AS segments_out
    ), noted AS (
        INSERT INTO delivery_change (delivery_id, time, state, cause, attempt_number, trace_id, segments_out)
        SELECT id, :now, 'publishing', 'worker', attempt_number, split_part(traceparent, '-', 2), segments_out
        FROM marked
    )
    SELECT id FROM marked
    """
)

_SAVE_HANDLE = text(
    """
    UPDATE delivery SET handles = handles || jsonb_build_object(CAST(:name AS text), CAST(:value AS text)),
        next_action_time = :lease
    WHERE id = :id AND fence = :fence AND state = 'claimed' RETURNING id
    """
)
