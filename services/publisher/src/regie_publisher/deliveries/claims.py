"""Hands deliveries out to workers: set-based, fair among workspaces, safe with any number of replicas.

First the oldest due deliveries of each workspace are looked up, then `fairness` chooses, then the chosen are claimed.

A claim raises the fence of a delivery. Later writes carry the fence, so that a worker that was taken for dead changes
nothing. A claim of a pending delivery also checks again whether it is too late.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

from regie_chassis.data.bulk import Columns
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from regie_publisher.deliveries.delivery import LEASE, Cause, ClaimedDelivery, Outcome, State, to_claimed_delivery
from regie_publisher.deliveries.events import stage_outcome
from regie_publisher.fairness.due_work import DueWork, fair_lookup
from regie_publisher.fairness.sharing import Choice
from regie_publisher.fairness.slots import Slots


async def find_due(session: AsyncSession, *, slots: Slots, now: datetime) -> list[DueWork]:
    """Returns due pending deliveries, the oldest of each workspace first, and locks none of them."""
    rows = await session.execute(_FIND_DUE, slots.lookup_parameters(now))
    return [DueWork(*row) for row in rows]


async def find_open(session: AsyncSession, *, state: State, slots: Slots, now: datetime) -> list[DueWork]:
    """Returns deliveries that are `processing` or `unknown` and due for a check or lookup, likewise."""
    rows = await session.execute(_FIND_OPEN, {"state": state, **slots.lookup_parameters(now)})
    return [DueWork(*row) for row in rows]


async def claim_pending(
    session: AsyncSession, due: Sequence[DueWork], *, worker: str, now: datetime
) -> list[ClaimedDelivery]:
    """Claims those of the deliveries that are still pending, each with a new attempt.

    A delivery that is too late becomes missed, one whose post was cancelled meanwhile becomes cancelled. While an
    earlier call may still land, such a delivery becomes unknown instead, and is looked up again.
    """
    rows = await session.execute(
        _CLAIM_PENDING, {"ids": [one.id for one in due], "now": now, "lease": now + LEASE, "worker": worker}
    )
    claimed: list[ClaimedDelivery] = []
    for row in rows:
        if row.state == State.CLAIMED:
            claimed.append(to_claimed_delivery(row))
        elif row.state != State.UNKNOWN:
            stage_outcome(session, row, _to_stopped(row, now), time=now, traceparent=row.traceparent)
    return claimed


async def postpone_paused(session: AsyncSession, choice: Choice, due: Sequence[DueWork], *, now: datetime) -> None:
    """Postpones deliveries to the end of their host's pause, but not beyond their miss time, and shows the reason in
    their timelines.
    """
    paused = [one for one in due if one.id in choice.paused]
    if not paused:
        return
    rows = [(one.id, choice.paused[one.id], _pause_text(one, choice.paused[one.id])) for one in paused]
    await session.execute(_POSTPONE_PAUSED, {"now": now, **_PAUSED.parameters(rows)})


async def claim_open(
    session: AsyncSession, due: Sequence[DueWork], *, state: State, worker: str, now: datetime
) -> list[ClaimedDelivery]:
    """Claims those of the deliveries that are still due for a check or lookup. Their state stays."""
    return await _claim_open(session, [one.id for one in due], state=state, worker=worker, now=now)


async def claim_companions(
    session: AsyncSession, channel_ids: Sequence[UUID], *, worker: str, limit: int, now: datetime
) -> list[ClaimedDelivery]:
    """Claims the other unknown deliveries of these channels that are due, up to `limit` of each: one reading of the
    network serves them all.
    """
    rows = await session.execute(_FIND_COMPANIONS, {"channel_ids": list(channel_ids), "now": now, "limit": limit})
    return await _claim_open(session, list(rows.scalars()), state=State.UNKNOWN, worker=worker, now=now)


async def release(session: AsyncSession, claimed: Sequence[ClaimedDelivery], *, cause: Cause, now: datetime) -> None:
    """Gives back claimed deliveries whose attempt has not begun; deliveries with a higher fence stay unchanged."""
    await session.execute(
        _RELEASE,
        {
            "ids": [delivery.id for delivery in claimed],
            "fences": [delivery.fence for delivery in claimed],
            "cause": cause.value,
            "now": now,
        },
    )


async def _claim_open(
    session: AsyncSession, ids: Sequence[UUID], *, state: State, worker: str, now: datetime
) -> list[ClaimedDelivery]:
    if not ids:
        return []
    columns = {"ids": ids, "state": state, "now": now, "lease": now + LEASE, "worker": worker}
    rows = await session.execute(_CLAIM_OPEN, columns)
    return [replace(to_claimed_delivery(row), cancelled=row.cancelled) for row in rows]


def _to_stopped(row: Any, now: datetime) -> Outcome:
    if row.state == State.CANCELLED:
        return Outcome(State.CANCELLED, Cause.POST_CANCELLED)
    seconds = round((now - row.due_time).total_seconds())
    late = f"it was due at {row.due_time:%Y-%m-%d %H:%M:%S} UTC and could only be sent {seconds} s later"
    reason = row.detail or row.network_message
    return Outcome(State.MISSED, Cause.TOO_LATE, detail=f"{late} ({reason})" if reason else late)


def _pause_text(due: DueWork, until: datetime) -> str:
    return f"{due.host} does not answer; no call is begun there before {until:%H:%M:%S} UTC"


_LATE = "work.remote_ids = '{}' AND work.miss_time <= :now"

_FIND_DUE = text(
    fair_lookup(
        table="delivery",
        waiting="state = 'pending'",
        columns="remote_ids, miss_time",
        late=_LATE,
        startable="channel.block_time IS NULL OR channel.block_time <= :now",
    )
)

# The planner uses the partial index only if its own condition stands in the statement.
_FIND_OPEN = text(fair_lookup(table="delivery", waiting="state IN ('processing', 'unknown') AND state = :state"))

# A claim compares the state in a form that matches no partial index: with the statistics of a quiet moment, the planner
# would otherwise read all pending deliveries instead of the few whose ids are given.
_CLAIM_PENDING = text(
    """
    WITH open AS MATERIALIZED (
        SELECT id,
            CASE
                WHEN remote_ids = '{}' AND EXISTS (
                    SELECT FROM cancellation AS c WHERE c.workspace_id = delivery.workspace_id
                        AND c.post_id = delivery.post_id AND c.revision >= delivery.revision
                ) THEN CASE WHEN call_end_time IS NULL THEN 'cancelled' ELSE 'unknown' END
                WHEN remote_ids = '{}' AND miss_time <= :now
                    THEN CASE WHEN call_end_time IS NULL THEN 'missed' ELSE 'unknown' END
                ELSE 'claimed'
            END AS verdict
        FROM delivery
        WHERE id = ANY(CAST(:ids AS uuid[])) AND state || '' = 'pending' AND next_action_time <= :now
        FOR UPDATE SKIP LOCKED
    ), taken AS (
        UPDATE delivery AS d SET
            fence = d.fence + 1,
            state = verdict,
            next_action_time = CASE verdict WHEN 'claimed' THEN CAST(:lease AS timestamptz)
                WHEN 'unknown' THEN CAST(:now AS timestamptz) END,
            attempt_number = d.attempt_number + CASE verdict WHEN 'claimed' THEN 1 ELSE 0 END,
            consecutive_attempts = d.consecutive_attempts + CASE verdict WHEN 'claimed' THEN 1 ELSE 0 END,
            worker = :worker
        FROM open
        WHERE d.id = open.id
        RETURNING d.*
    ), tried AS (
        INSERT INTO attempt (delivery_id, number, fence, worker, claim_time)
        SELECT id, attempt_number, fence, worker, :now FROM taken WHERE state = 'claimed'
    ), noted AS (
        INSERT INTO delivery_change (delivery_id, time, state, cause, attempt_number, trace_id, segments_out, detail)
        SELECT id, :now, state,
            CASE state WHEN 'missed' THEN 'too_late' WHEN 'cancelled' THEN 'PostCancelled'
                WHEN 'unknown' THEN 'call_may_land' ELSE 'worker' END, attempt_number,
            split_part(traceparent, '-', 2), cardinality(remote_ids),
            CASE state WHEN 'missed' THEN 'it could only be sent '
                || round(extract(epoch FROM CAST(:now AS timestamptz) - due_time)) || ' s after it was due'
                ELSE '' END
        FROM taken
    )
    SELECT *, CAST(handles AS text) AS handles_text FROM taken
    """
)

_PAUSED = Columns("p", id="uuid", until="timestamptz", message="text")

_POSTPONE_PAUSED = text(
    f"""
    WITH waiting AS (
        SELECT d.id, p.until, p.message FROM delivery AS d JOIN {_PAUSED.unnest} ON p.id = d.id
        WHERE d.state || '' = 'pending' AND d.next_action_time <= :now
        FOR UPDATE OF d SKIP LOCKED
    ), moved AS (
        UPDATE delivery AS d SET next_action_time = least(w.until, d.miss_time), detail = w.message
        FROM waiting AS w WHERE d.id = w.id
        RETURNING d.id, d.attempt_number, d.traceparent, w.message, cardinality(d.remote_ids) AS segments_out
    )
    INSERT INTO delivery_change (delivery_id, time, state, cause, attempt_number, detail, trace_id, segments_out)
    SELECT id, :now, 'pending', 'host_silent', attempt_number, message, split_part(traceparent, '-', 2), segments_out
    FROM moved
    """
)

_CLAIM_OPEN = text(
    """
    UPDATE delivery AS d SET fence = d.fence + 1, next_action_time = :lease, worker = :worker
    FROM (
        SELECT id FROM delivery
        WHERE id = ANY(CAST(:ids AS uuid[])) AND state || '' = :state AND next_action_time <= :now
        FOR UPDATE SKIP LOCKED
    ) AS due
    WHERE d.id = due.id
    RETURNING d.*, CAST(d.handles AS text) AS handles_text, EXISTS (
        SELECT FROM cancellation AS c WHERE c.workspace_id = d.workspace_id AND c.post_id = d.post_id
            AND c.revision >= d.revision
    ) AS cancelled
    """
)

_FIND_COMPANIONS = text(
    """
    SELECT next.id FROM unnest(CAST(:channel_ids AS uuid[])) AS c (id) CROSS JOIN LATERAL (
        SELECT d.id FROM delivery AS d
        WHERE d.channel_id = c.id AND d.call_end_time IS NOT NULL AND d.state = 'unknown' AND d.next_action_time <= :now
        ORDER BY d.next_action_time LIMIT :limit
    ) AS next
    """
)

_RELEASE = text(
    """
    WITH given AS (
        UPDATE delivery AS d
        SET state = 'pending', next_action_time = :now, fence = d.fence + 1,
            consecutive_attempts = greatest(d.consecutive_attempts - 1, 0)
        FROM unnest(CAST(:ids AS uuid[]), CAST(:fences AS bigint[])) AS h (id, fence)
        WHERE d.id = h.id AND d.fence = h.fence AND d.state = 'claimed'
        RETURNING d.id, d.attempt_number, d.traceparent, cardinality(d.remote_ids) AS segments_out
    ), ended AS (
        UPDATE attempt AS a SET end_time = :now, outcome = 'released' FROM given
        WHERE a.delivery_id = given.id AND a.number = given.attempt_number
    )
    INSERT INTO delivery_change (delivery_id, time, state, cause, attempt_number, trace_id, segments_out)
    SELECT id, :now, 'pending', :cause, attempt_number, split_part(traceparent, '-', 2), segments_out FROM given
    """
)
