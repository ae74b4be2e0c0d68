"""Hands deliveries out to workers: set-based, fair among channels, safe with any number of replicas.

Whoever takes a delivery raises its fence; what is written later carries the fence, so that a worker that was
thought dead writes nothing. Taking a pending delivery also judges once more whether it is too late.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from regie.publisher.events.v1.publisher_events_pb2 import DeliveryCancelled, DeliveryMissed
from regie_chassis.ids import CHANNEL, DELIVERY, POST, show_id
from regie_chassis.outbox import stage
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from regie_publisher.connectors.connector import Remote
from regie_publisher.deliveries.delivery import LEASE, Held, Outcome, State
from regie_publisher.telemetry import tell_end


@dataclass(frozen=True, slots=True)
class Capacity:
    """How much a worker can take now: `limit` in all, and up to `per_channel`, less what it already holds of each."""

    limit: int
    per_channel: int
    held: Mapping[UUID, int]


async def claim_pending(session: AsyncSession, *, worker: str, capacity: Capacity, now: datetime) -> list[Held]:
    """Takes pending deliveries whose time has come, each with a new attempt; those that are too late become
    missed, and those that a person stopped meanwhile cancelled. Neither is said while a call may still land: such a
    one is looked for again.
    """
    rows = await session.execute(
        _CLAIM_PENDING,
        {
            "now": now,
            "lease": now + LEASE,
            "worker": worker,
            "limit": capacity.limit,
            "per_channel": capacity.per_channel,
            "busy": list(capacity.held),
            "busy_counts": list(capacity.held.values()),
        },
    )
    held: list[Held] = []
    for row in rows:
        if row.state == State.CLAIMED:
            held.append(held_of(row))
        elif row.state != State.UNKNOWN:
            _say_stopped(session, row, now)
    return held


async def claim_open(session: AsyncSession, *, state: State, worker: str, limit: int, now: datetime) -> list[Held]:
    """Takes deliveries that are `processing` or `unknown` and due to be asked about. Their state stays."""
    rows = await session.execute(
        _CLAIM_OPEN, {"state": state, "now": now, "lease": now + LEASE, "worker": worker, "limit": limit}
    )
    return [replace(held_of(row), cancelled=row.cancelled) for row in rows]


async def release(session: AsyncSession, held: Sequence[Held], *, cause: str, now: datetime) -> None:
    """Gives claimed deliveries back that were not begun; what is no longer ours stays as it is."""
    await session.execute(
        _RELEASE,
        {"ids": [one.id for one in held], "fences": [one.fence for one in held], "cause": cause, "now": now},
    )


def held_of(row: Any) -> Held:
    """Returns a row of `delivery` as a held delivery."""
    return Held(
        id=row.id,
        workspace_id=row.workspace_id,
        post_id=row.post_id,
        channel_id=row.channel_id,
        revision=row.revision,
        network=row.network,
        state=State(row.state),
        content=row.content,
        segment_keys=tuple(row.segment_keys),
        compose_time=row.compose_time,
        due_time=row.due_time,
        miss_time=row.miss_time,
        traceparent=row.traceparent,
        fence=row.fence,
        attempt=row.attempt,
        tries=row.tries,
        finds=row.finds,
        handles=json.loads(row.handles_text),
        remotes=tuple(Remote(*pair) for pair in zip(row.remote_ids, row.remote_urls, strict=True)),
        processing_handle=row.processing_handle,
        call_end=row.call_end_time,
        quiet_end=row.quiet_end_time,
        looks=row.looks,
    )


def _say_stopped(session: AsyncSession, row: Any, now: datetime) -> None:
    ids = {
        "delivery_id": show_id(DELIVERY, row.id),
        "post_id": show_id(POST, row.post_id),
        "channel_id": show_id(CHANNEL, row.channel_id),
    }
    late = f"it was due at {row.due_time:%Y-%m-%d %H:%M:%S} UTC and could only be sent {now - row.due_time} later"
    message = (
        DeliveryMissed(**ids, revision=row.revision, reason=late)
        if row.state == State.MISSED
        else DeliveryCancelled(**ids, revision=row.revision)
    )
    cause = "too_late" if row.state == State.MISSED else "PostCancelled"
    tell_end(session, row, Outcome(State(row.state), cause), traceparent=row.traceparent)
    stage(
        session,
        message,
        workspace_id=row.workspace_id,
        aggregate_id=str(row.post_id),
        time=now,
        traceparent=row.traceparent,
    )


# The window is locked before it is ranked: two replicas that look at once take different rows, and none waits. A
# channel that is at its limit is left out of the window, so that its backlog hides nobody else's.
_CLAIM_PENDING = text(
    """
    WITH busy AS (
        SELECT * FROM unnest(CAST(:busy AS uuid[]), CAST(:busy_counts AS int[])) AS b (channel_id, held)
    ), open AS MATERIALIZED (
        SELECT id, channel_id, act_time,
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
        WHERE state = 'pending' AND act_time <= :now
          AND channel_id NOT IN (SELECT channel_id FROM busy WHERE held >= :per_channel)
        ORDER BY act_time LIMIT :limit FOR UPDATE SKIP LOCKED
    ), ranked AS (
        SELECT open.id, open.verdict, row_number() OVER (PARTITION BY open.channel_id ORDER BY open.act_time)
            + coalesce(busy.held, 0) AS turn
        FROM open LEFT JOIN busy USING (channel_id)
    ), taken AS (
        UPDATE delivery AS d SET
            fence = d.fence + 1,
            state = verdict,
            act_time = CASE verdict WHEN 'claimed' THEN CAST(:lease AS timestamptz)
                WHEN 'unknown' THEN CAST(:now AS timestamptz) END,
            attempt = d.attempt + CASE verdict WHEN 'claimed' THEN 1 ELSE 0 END,
            tries = d.tries + CASE verdict WHEN 'claimed' THEN 1 ELSE 0 END,
            worker = :worker
        FROM ranked
        WHERE d.id = ranked.id AND (ranked.turn <= :per_channel OR verdict <> 'claimed')
        RETURNING d.*
    ), tried AS (
        INSERT INTO attempt (delivery_id, number, fence, worker, claim_time)
        SELECT id, attempt, fence, worker, :now FROM taken WHERE state = 'claimed'
    ), noted AS (
        INSERT INTO delivery_change (delivery_id, time, state, cause, attempt, trace_id, segments_out)
        SELECT id, :now, state,
            CASE state WHEN 'missed' THEN 'too_late' WHEN 'cancelled' THEN 'PostCancelled'
                WHEN 'unknown' THEN 'call_may_land' ELSE 'worker' END, attempt,
            split_part(traceparent, '-', 2), cardinality(remote_ids)
        FROM taken
    )
    SELECT *, CAST(handles AS text) AS handles_text FROM taken
    """
)

_CLAIM_OPEN = text(
    """
    UPDATE delivery AS d SET fence = d.fence + 1, act_time = :lease, worker = :worker
    FROM (
        SELECT id FROM delivery WHERE state IN ('processing', 'unknown') AND state = :state AND act_time <= :now
        ORDER BY act_time LIMIT :limit FOR UPDATE SKIP LOCKED
    ) AS due
    WHERE d.id = due.id
    RETURNING d.*, CAST(d.handles AS text) AS handles_text, EXISTS (
        SELECT FROM cancellation AS c WHERE c.workspace_id = d.workspace_id AND c.post_id = d.post_id
            AND c.revision >= d.revision
    ) AS cancelled
    """
)

_RELEASE = text(
    """
    WITH given AS (
        UPDATE delivery AS d
        SET state = 'pending', act_time = :now, fence = d.fence + 1, tries = greatest(d.tries - 1, 0)
        FROM unnest(CAST(:ids AS uuid[]), CAST(:fences AS bigint[])) AS h (id, fence)
        WHERE d.id = h.id AND d.fence = h.fence AND d.state = 'claimed'
        RETURNING d.id, d.attempt, d.traceparent, cardinality(d.remote_ids) AS segments_out
    ), ended AS (
        UPDATE attempt AS a SET end_time = :now, outcome = 'released' FROM given
        WHERE a.delivery_id = given.id AND a.number = given.attempt
    )
    INSERT INTO delivery_change (delivery_id, time, state, cause, attempt, trace_id, segments_out)
    SELECT id, :now, 'pending', :cause, attempt, split_part(traceparent, '-', 2), segments_out FROM given
    """
)
