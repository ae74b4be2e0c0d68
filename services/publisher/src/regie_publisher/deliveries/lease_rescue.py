"""Takes back what a dead worker held: nothing was called yet → pending; a call may have left → unknown."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from regie.publisher.events.v1.publisher_events_pb2 import DeliveryUnknown, RemoteSegment
from regie_chassis.ids import CHANNEL, DELIVERY, POST, show_id
from regie_chassis.outbox import stage
from regie_chassis.timestamps import timestamp
from regie_networks.absence import QUIET
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from regie_publisher.deliveries.delivery import MARGIN, Cause, Outcome, State
from regie_publisher.telemetry import set_unknown, tell_end

LIMIT = 500
WHY_UNKNOWN = "the worker ended while the call was on its way; it is being looked for"


async def sweep(session: AsyncSession, *, quiets: Mapping[str, timedelta], now: datetime) -> int:
    """Takes back expired leases, set-based. Returns how many. Safe with any number of replicas.

    When the call of a dead worker ended is not known; leases outlive calls, so the lease's end stands for it.
    `quiets` is how long after that a call may still land, by network.
    """
    columns = {
        "now": now,
        "find_time": now + MARGIN,
        "limit": LIMIT,
        "why": WHY_UNKNOWN,
        "networks": list(quiets),
        "quiets": list(quiets.values()),
        "quiet": QUIET,
    }
    rows = await session.execute(_SWEEP, columns)
    swept = rows.all()
    for row in swept:
        if row.state == "unknown":
            _say_unknown(session, row, now)
    return len(swept)


async def count_unknown(session: AsyncSession) -> None:
    """Publishes how many deliveries are unknown now."""
    rows = await session.execute(_COUNT_UNKNOWN)
    counts = {bool(person): int(count) for person, count in rows}
    set_unknown(searching=counts.get(False, 0), needs_person=counts.get(True, 0))


def _say_unknown(session: AsyncSession, row: Any, now: datetime) -> None:
    message = DeliveryUnknown(
        delivery_id=show_id(DELIVERY, row.id),
        post_id=show_id(POST, row.post_id),
        channel_id=show_id(CHANNEL, row.channel_id),
        revision=row.revision,
        reason=WHY_UNKNOWN,
        call_end_time=timestamp(row.call_end_time),
        quiet_end_time=timestamp(row.quiet_end_time),
        next_look_time=timestamp(row.act_time),
        segments=[
            RemoteSegment(remote_id=remote_id, remote_url=url)
            for remote_id, url in zip(row.remote_ids, row.remote_urls, strict=True)
        ],
        segment_count=len(row.segment_keys),
    )
    tell_end(session, row, Outcome(State.UNKNOWN, Cause.LEASE_EXPIRED), traceparent=row.traceparent)
    stage(
        session,
        message,
        workspace_id=row.workspace_id,
        time=now,
        traceparent=row.traceparent,
    )


_SWEEP = text(
    """
    WITH swept AS (
        UPDATE delivery AS d SET
            fence = d.fence + 1,
            state = CASE d.state WHEN 'claimed' THEN 'pending' ELSE 'unknown' END,
            act_time = CASE d.state WHEN 'claimed' THEN CAST(:now AS timestamptz)
                ELSE CAST(:find_time AS timestamptz) END,
            network_message = CASE d.state WHEN 'claimed' THEN '' ELSE :why END,
            finds = 0,
            looks = CASE d.state WHEN 'claimed' THEN d.looks ELSE 0 END,
            call_end_time = CASE d.state WHEN 'claimed' THEN d.call_end_time ELSE d.act_time END,
            quiet_end_time = CASE d.state WHEN 'claimed' THEN d.quiet_end_time ELSE d.act_time + coalesce((
                SELECT quiet FROM unnest(CAST(:networks AS text[]), CAST(:quiets AS interval[])) AS q (network, quiet)
                WHERE q.network = d.network
            ), CAST(:quiet AS interval)) END
        FROM (
            SELECT id FROM delivery WHERE state IN ('claimed', 'publishing') AND act_time <= :now
            ORDER BY act_time LIMIT :limit FOR UPDATE SKIP LOCKED
        ) AS expired
        WHERE d.id = expired.id
        RETURNING d.*
    ), ended AS (
        UPDATE attempt AS a SET end_time = :now, outcome = 'lease_expired' FROM swept
        WHERE a.delivery_id = swept.id AND a.number = swept.attempt
    ), noted AS (
        INSERT INTO delivery_change (delivery_id, time, state, cause, attempt, network_message, trace_id, segments_out)
        SELECT id, :now, state, 'lease_expired', attempt, network_message, split_part(traceparent, '-', 2),
            cardinality(remote_ids)
        FROM swept
    )
    SELECT * FROM swept
    """
)

_COUNT_UNKNOWN = text("SELECT needs_person, count(*) FROM delivery WHERE state = 'unknown' GROUP BY needs_person")
