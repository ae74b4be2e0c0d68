"""Hands deliveries out to workers: set-based, fair among workspaces, safe with any number of replicas.

First the oldest that are due in each workspace are looked up, then `shares` chooses, then what was chosen is taken.

Whoever takes a delivery raises its fence; what is written later carries the fence, so that a worker that was
thought dead writes nothing. Taking a pending delivery also judges once more whether it is too late.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

from regie.publisher.events.v1.publisher_events_pb2 import DeliveryCancelled, DeliveryMissed
from regie_chassis.ids import CHANNEL, DELIVERY, POST, show_id
from regie_chassis.outbox import stage
from regie_networks.draft import Remote
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from regie_publisher.deliveries.delivery import LEASE, Cause, Held, Outcome, State
from regie_publisher.shares import Choice, Due, Slots, due_columns, due_of
from regie_publisher.telemetry import tell_end


async def find_due(session: AsyncSession, *, slots: Slots, now: datetime) -> list[Due]:
    """Returns pending deliveries whose time has come, the oldest of each workspace, and locks none of them."""
    rows = await session.execute(_FIND_DUE, due_columns(slots, now))
    return [due_of(row) for row in rows]


async def find_open(session: AsyncSession, *, state: State, slots: Slots, now: datetime) -> list[Due]:
    """Returns deliveries that are `processing` or `unknown` and due to be asked about, likewise."""
    rows = await session.execute(_FIND_OPEN, {"state": state, **due_columns(slots, now)})
    return [due_of(row) for row in rows]


async def claim_pending(session: AsyncSession, due: Sequence[Due], *, worker: str, now: datetime) -> list[Held]:
    """Takes these deliveries where they still wait, each with a new attempt; those that are too late become
    missed, and those that a person stopped meanwhile cancelled. Neither is said while a call may still land: such a
    one is looked for again.
    """
    rows = await session.execute(
        _CLAIM_PENDING, {"ids": [one.id for one in due], "now": now, "lease": now + LEASE, "worker": worker}
    )
    held: list[Held] = []
    for row in rows:
        if row.state == State.CLAIMED:
            held.append(held_of(row))
        elif row.state != State.UNKNOWN:
            _say_stopped(session, row, now)
    return held


async def put_off(session: AsyncSession, choice: Choice, due: Sequence[Due], *, now: datetime) -> None:
    """Lets deliveries wait for their silent host, and says so in their timelines; never past their miss time."""
    paused = [one for one in due if one.id in choice.paused]
    if not paused:
        return
    await session.execute(
        _PUT_OFF,
        {
            "ids": [one.id for one in paused],
            "untils": [choice.paused[one.id] for one in paused],
            "messages": [_why_paused(one, choice.paused[one.id]) for one in paused],
            "now": now,
        },
    )


async def claim_open(
    session: AsyncSession, due: Sequence[Due], *, state: State, worker: str, now: datetime
) -> list[Held]:
    """Takes these deliveries where they are still due to be asked about. Their state stays."""
    if not due:
        return []
    rows = await session.execute(
        _CLAIM_OPEN,
        {"ids": [one.id for one in due], "state": state, "now": now, "lease": now + LEASE, "worker": worker},
    )
    return [replace(held_of(row), cancelled=row.cancelled) for row in rows]


async def claim_companions(
    session: AsyncSession, channel_ids: Sequence[UUID], *, worker: str, limit: int, now: datetime
) -> list[Held]:
    """Takes what else is unknown and due of these channels, up to `limit` of each: one reading serves them all."""
    rows = await session.execute(_FIND_COMPANIONS, {"channel_ids": list(channel_ids), "now": now, "limit": limit})
    ids = list(rows.scalars())
    if not ids:
        return []
    columns = {"ids": ids, "state": State.UNKNOWN, "now": now, "lease": now + LEASE, "worker": worker}
    rows = await session.execute(_CLAIM_OPEN, columns)
    return [replace(held_of(row), cancelled=row.cancelled) for row in rows]


async def release(session: AsyncSession, held: Sequence[Held], *, cause: Cause, now: datetime) -> None:
    """Gives claimed deliveries back that were not begun; what is no longer ours stays as it is."""
    await session.execute(
        _RELEASE,
        {"ids": [one.id for one in held], "fences": [one.fence for one in held], "cause": cause.value, "now": now},
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
    seconds = round((now - row.due_time).total_seconds())
    late = f"it was due at {row.due_time:%Y-%m-%d %H:%M:%S} UTC and could only be sent {seconds} s later"
    if why := row.detail or row.network_message:
        late = f"{late} ({why})"
    message = (
        DeliveryMissed(**ids, revision=row.revision, reason=late)
        if row.state == State.MISSED
        else DeliveryCancelled(**ids, revision=row.revision)
    )
    cause = Cause.TOO_LATE if row.state == State.MISSED else Cause.POST_CANCELLED
    tell_end(session, row, Outcome(State(row.state), cause), traceparent=row.traceparent)
    stage(
        session,
        message,
        workspace_id=row.workspace_id,
        time=now,
        traceparent=row.traceparent,
    )


def _why_paused(due: Due, until: datetime) -> str:
    return f"{due.host} does not answer; no call is begun there before {until:%H:%M:%S} UTC"


# Of each workspace that has something due, the oldest that can be begun: a backlog of one is never read through to get
# to another's. Nothing is locked by looking; what is chosen is locked when it is taken, and skipped where another
# replica was quicker.
_FIND_DUE = text(
    """
    WITH RECURSIVE space AS (
        (SELECT workspace_id FROM delivery WHERE state = 'pending' ORDER BY workspace_id LIMIT 1)
        UNION ALL
        SELECT (
            SELECT d.workspace_id FROM delivery AS d
            WHERE d.state = 'pending' AND d.workspace_id > space.workspace_id ORDER BY d.workspace_id LIMIT 1
        ) FROM space WHERE space.workspace_id IS NOT NULL
    ), full_peer AS (
        SELECT * FROM unnest(CAST(:full_spaces AS uuid[]), CAST(:full_hosts AS text[])) AS f (workspace_id, host)
    )
    SELECT found.* FROM space CROSS JOIN LATERAL (
        SELECT d.id, d.workspace_id, d.channel_id, coalesce(channel.host, '') AS host, d.act_time,
            d.remote_ids = '{}' AND d.miss_time <= :now AS late
        FROM (
            SELECT id, workspace_id, channel_id, act_time, remote_ids, miss_time FROM delivery
            WHERE state = 'pending' AND workspace_id = space.workspace_id AND act_time <= :now
            ORDER BY act_time LIMIT :scan
        ) AS d
        LEFT JOIN LATERAL (
            SELECT split_part(server_url, '/', 3) AS host, block_time FROM channel WHERE channel.id = d.channel_id
        ) AS channel ON true
        WHERE (d.remote_ids = '{}' AND d.miss_time <= :now) OR (
            (channel.block_time IS NULL OR channel.block_time <= :now)
            AND d.channel_id <> ALL(CAST(:full_channels AS uuid[]))
            AND NOT EXISTS (
                SELECT FROM full_peer AS f WHERE f.workspace_id = d.workspace_id AND f.host = channel.host
            )
        )
        ORDER BY d.act_time LIMIT :most
    ) AS found
    WHERE space.workspace_id <> ALL(CAST(:full_workspaces AS uuid[]))
    """
)

_FIND_OPEN = text(
    """
    WITH RECURSIVE space AS (
        (
            SELECT workspace_id FROM delivery WHERE state IN ('processing', 'unknown') AND state = :state
            ORDER BY workspace_id LIMIT 1
        )
        UNION ALL
        SELECT (
            SELECT d.workspace_id FROM delivery AS d
            WHERE d.state IN ('processing', 'unknown') AND d.state = :state AND d.workspace_id > space.workspace_id
            ORDER BY d.workspace_id LIMIT 1
        ) FROM space WHERE space.workspace_id IS NOT NULL
    ), full_peer AS (
        SELECT * FROM unnest(CAST(:full_spaces AS uuid[]), CAST(:full_hosts AS text[])) AS f (workspace_id, host)
    )
    SELECT found.* FROM space CROSS JOIN LATERAL (
        SELECT d.id, d.workspace_id, d.channel_id, coalesce(channel.host, '') AS host, d.act_time, false AS late
        FROM (
            SELECT id, workspace_id, channel_id, act_time FROM delivery
            WHERE state IN ('processing', 'unknown') AND state = :state AND workspace_id = space.workspace_id
                AND act_time <= :now
            ORDER BY act_time LIMIT :scan
        ) AS d
        LEFT JOIN LATERAL (
            SELECT split_part(server_url, '/', 3) AS host FROM channel WHERE channel.id = d.channel_id
        ) AS channel ON true
        WHERE d.channel_id <> ALL(CAST(:full_channels AS uuid[]))
            AND NOT EXISTS (
                SELECT FROM full_peer AS f WHERE f.workspace_id = d.workspace_id AND f.host = channel.host
            )
        ORDER BY d.act_time LIMIT :most
    ) AS found
    WHERE space.workspace_id <> ALL(CAST(:full_workspaces AS uuid[]))
    """
)

# Where deliveries are named by their ids, the state is compared in a form that no partial index answers to: with the
# statistics of a quiet moment, the planner reads through all that waits instead of to the few that are named.
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
        WHERE id = ANY(CAST(:ids AS uuid[])) AND state || '' = 'pending' AND act_time <= :now
        FOR UPDATE SKIP LOCKED
    ), taken AS (
        UPDATE delivery AS d SET
            fence = d.fence + 1,
            state = verdict,
            act_time = CASE verdict WHEN 'claimed' THEN CAST(:lease AS timestamptz)
                WHEN 'unknown' THEN CAST(:now AS timestamptz) END,
            attempt = d.attempt + CASE verdict WHEN 'claimed' THEN 1 ELSE 0 END,
            tries = d.tries + CASE verdict WHEN 'claimed' THEN 1 ELSE 0 END,
            worker = :worker
        FROM open
        WHERE d.id = open.id
        RETURNING d.*
    ), tried AS (
        INSERT INTO attempt (delivery_id, number, fence, worker, claim_time)
        SELECT id, attempt, fence, worker, :now FROM taken WHERE state = 'claimed'
    ), noted AS (
        INSERT INTO delivery_change (delivery_id, time, state, cause, attempt, trace_id, segments_out, detail)
        SELECT id, :now, state,
            CASE state WHEN 'missed' THEN 'too_late' WHEN 'cancelled' THEN 'PostCancelled'
                WHEN 'unknown' THEN 'call_may_land' ELSE 'worker' END, attempt,
            split_part(traceparent, '-', 2), cardinality(remote_ids),
            CASE state WHEN 'missed' THEN 'it could only be sent '
                || round(extract(epoch FROM CAST(:now AS timestamptz) - due_time)) || ' s after it was due'
                ELSE '' END
        FROM taken
    )
    SELECT *, CAST(handles AS text) AS handles_text FROM taken
    """
)

_PUT_OFF = text(
    """
    WITH waiting AS (
        SELECT d.id, p.until, p.message FROM delivery AS d
        JOIN unnest(CAST(:ids AS uuid[]), CAST(:untils AS timestamptz[]), CAST(:messages AS text[]))
            AS p (id, until, message) ON p.id = d.id
        WHERE d.state || '' = 'pending' AND d.act_time <= :now
        FOR UPDATE OF d SKIP LOCKED
    ), moved AS (
        UPDATE delivery AS d SET act_time = least(w.until, d.miss_time), detail = w.message
        FROM waiting AS w WHERE d.id = w.id
        RETURNING d.id, d.attempt, d.traceparent, w.message, cardinality(d.remote_ids) AS segments_out
    )
    INSERT INTO delivery_change (delivery_id, time, state, cause, attempt, detail, trace_id, segments_out)
    SELECT id, :now, 'pending', 'host_silent', attempt, message, split_part(traceparent, '-', 2), segments_out
    FROM moved
    """
)

_CLAIM_OPEN = text(
    """
    UPDATE delivery AS d SET fence = d.fence + 1, act_time = :lease, worker = :worker
    FROM (
        SELECT id FROM delivery
        WHERE id = ANY(CAST(:ids AS uuid[])) AND state || '' = :state AND act_time <= :now FOR UPDATE SKIP LOCKED
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
        WHERE d.channel_id = c.id AND d.call_end_time IS NOT NULL AND d.state = 'unknown' AND d.act_time <= :now
        ORDER BY d.act_time LIMIT :limit
    ) AS next
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
