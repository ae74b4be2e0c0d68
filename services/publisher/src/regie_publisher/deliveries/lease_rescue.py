"""Takes back deliveries with expired leases: pending if no call had begun, unknown if a call may have."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from regie_networks.absence import QUIET
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from regie_publisher.deliveries.delivery import MARGIN, Cause, Outcome, State, remotes_of
from regie_publisher.deliveries.events import stage_outcome
from regie_publisher.deliveries.telemetry import set_unknown

MAX_RESCUED = 500
"""Deliveries that are taken back in one transaction."""
REASON = "the worker ended while the call was on its way; it is being looked for"


async def rescue_expired_leases(session: AsyncSession, *, quiets: Mapping[str, timedelta], now: datetime) -> int:
    """Takes back expired leases, set-based. Returns their number. Safe with any number of replicas.

    The end of a dead worker's call is not known; leases outlive calls, so that the lease's end stands for it.
    `quiets` is the time by network for which a call may still land after that.
    """
    columns = {
        "now": now,
        "lookup_time": now + MARGIN,
        "limit": MAX_RESCUED,
        "why": REASON,
        "networks": list(quiets),
        "quiets": list(quiets.values()),
        "quiet": QUIET,
    }
    rows = (await session.execute(_RESCUE, columns)).all()
    for row in rows:
        if row.state == State.UNKNOWN:
            outcome = Outcome(
                State.UNKNOWN,
                Cause.LEASE_EXPIRED,
                message=REASON,
                next_action_time=row.next_action_time,
                call_end=row.call_end_time,
                quiet_end=row.quiet_end_time,
            )
            stage_outcome(
                session,
                row,
                outcome,
                time=now,
                traceparent=row.traceparent,
                segment_count=len(row.segment_keys),
                remotes=remotes_of(row),
            )
    return len(rows)


async def count_unknown(session: AsyncSession) -> None:
    """Publishes the current number of unknown deliveries as metrics."""
    rows = await session.execute(_COUNT_UNKNOWN)
    counts = {bool(person): int(count) for person, count in rows}
    set_unknown(searching=counts.get(False, 0), needs_person=counts.get(True, 0))


_RESCUE = text(
    """
    WITH rescued AS (
        UPDATE delivery AS d SET
            fence = d.fence + 1,
            state = CASE d.state WHEN 'claimed' THEN 'pending' ELSE 'unknown' END,
            next_action_time = CASE d.state WHEN 'claimed' THEN CAST(:now AS timestamptz)
                ELSE CAST(:lookup_time AS timestamptz) END,
            network_message = CASE d.state WHEN 'claimed' THEN '' ELSE :why END,
            lookups = 0,
            empty_lookups = CASE d.state WHEN 'claimed' THEN d.empty_lookups ELSE 0 END,
            call_end_time = CASE d.state WHEN 'claimed' THEN d.call_end_time ELSE d.next_action_time END,
            quiet_end_time = CASE d.state WHEN 'claimed' THEN d.quiet_end_time ELSE d.next_action_time + coalesce((
                SELECT quiet FROM unnest(CAST(:networks AS text[]), CAST(:quiets AS interval[])) AS q (network, quiet)
                WHERE q.network = d.network
            ), CAST(:quiet AS interval)) END
        FROM (
            SELECT id FROM delivery WHERE state IN ('claimed', 'publishing') AND next_action_time <= :now
            ORDER BY next_action_time LIMIT :limit FOR UPDATE SKIP LOCKED
        ) AS expired
        WHERE d.id = expired.id
        RETURNING d.*
    ), ended AS (
        UPDATE attempt AS a SET end_time = :now, outcome = 'lease_expired' FROM rescued
        WHERE a.delivery_id = rescued.id AND a.number = rescued.attempt_number
    ), noted AS (
        INSERT INTO delivery_change (delivery_id, time, state, cause, attempt_number, network_message, trace_id,
            segments_out)
        SELECT id, :now, state, 'lease_expired', attempt_number, network_message, split_part(traceparent, '-', 2),
            cardinality(remote_ids)
        FROM rescued
    )
    SELECT * FROM rescued
    """
)

_COUNT_UNKNOWN = text("SELECT needs_person, count(*) FROM delivery WHERE state = 'unknown' GROUP BY needs_person")
