"""Writes down what became of deliveries: state, attempt, history and event in one statement and one transaction.

Every write carries the fence under which its delivery was taken. One that no longer holds changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from uuid import UUID

import structlog
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from regie.publisher.events.v1.publisher_events_pb2 import (
    DeliveryFailed,
    DeliveryProcessing,
    DeliveryUnknown,
    PostPublished,
)
from regie_chassis.ids import CHANNEL, DELIVERY, POST, show_id
from regie_chassis.outbox import fitting, stage
from regie_chassis.telemetry import trace_id_of
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from regie_publisher import standing
from regie_publisher.connectors.connector import Remote
from regie_publisher.deliveries.delivery import LEASE, Held, Note, Outcome, State
from regie_publisher.deliveries.judging import source_of
from regie_publisher.polls import plan
from regie_publisher.telemetry import tell_outcomes
from regie_publisher.words import storable

log = structlog.get_logger()


async def record(session: AsyncSession, notes: Sequence[Note], *, now: datetime) -> list[bool]:
    """Writes outcomes down and says them. Returns for each whether its delivery was still held.

    Repeatable: a note that was written already changes nothing, and counts as no longer held.
    """
    notes = [replace(note, outcome=_storable(note.outcome)) for note in notes]
    # Rows are locked in the order of their ids everywhere, so that a cancellation and a batch never deadlock.
    rows = await session.execute(_RECORD, _columns(sorted(notes, key=lambda note: note.held.id), now))
    written = {row.id: Remote(row.first_id, row.first_url) if row.first_id is not None else None for row in rows}
    kept = [note for note in notes if note.held.id in written]
    for note in notes:
        if note.held.id not in written:
            log.warning("delivery.fenced_off", delivery=show_id(DELIVERY, note.held.id), fence=note.held.fence)
    for note in kept:
        message = _event_of(note.held, note.outcome, written[note.held.id], now)
        if message is not None:
            stage(
                session,
                fitting(message),  # what happened at a network is recorded whatever it said about it
                workspace_id=note.held.workspace_id,
                aggregate_id=str(note.held.post_id),
                time=now,
                traceparent=note.traceparent,
            )
    published = [note for note in kept if note.outcome.state is State.PUBLISHED]
    await plan(session, [(note, written[note.held.id]) for note in published], now=now)
    await _act_on_channels(session, kept, now)
    tell_outcomes(session, kept)
    return [note.held.id in written for note in notes]


async def mark_publishing(session: AsyncSession, held: Sequence[Held], *, now: datetime) -> list[bool]:
    """Notes that a call may leave from now on, and renews the lease. Returns for each whether it may."""
    in_order = sorted(held, key=lambda one: one.id)
    rows = await session.execute(
        _MARK,
        {
            "ids": [one.id for one in in_order],
            "fences": [one.fence for one in in_order],
            "now": now,
            "lease": now + LEASE,
        },
    )
    marked: set[UUID] = set(rows.scalars())
    return [one.id in marked for one in held]


async def save_handle(session: AsyncSession, held: Held, name: str, value: str, *, now: datetime) -> bool:
    """Keeps what `prepare` got from the network, and renews the lease. Returns False when it is no longer held."""
    rows = await session.execute(
        text(
            "UPDATE delivery SET handles = handles || jsonb_build_object(CAST(:name AS text), CAST(:value AS text)),"
            " act_time = :lease WHERE id = :id AND fence = :fence AND state = 'claimed' RETURNING id"
        ),
        {
            "id": held.id,
            "fence": held.fence,
            "name": storable(name),
            "value": storable(value),
            "lease": now + LEASE,
        },
    )
    return rows.scalar_one_or_none() is not None


async def _act_on_channels(session: AsyncSession, notes: Sequence[Note], now: datetime) -> None:
    """Once for each channel, in the order of their ids, so that two batches never wait for one another."""
    blocked: dict[UUID, datetime] = {}
    expired: dict[UUID, Note] = {}
    for note in notes:
        channel_id, until = note.held.channel_id, note.outcome.block_until
        if until is not None:
            blocked[channel_id] = max(until, blocked.get(channel_id, until))
        if note.outcome.expired_version is not None:
            expired[channel_id] = note
    for channel_id in sorted(blocked):
        await standing.block(session, channel_id=channel_id, until=blocked[channel_id])
    for channel_id in sorted(expired):
        note = expired[channel_id]
        await standing.need_attention(
            session,
            channel_id=channel_id,
            version=note.outcome.expired_version or 0,
            reason=note.outcome.message,
            now=now,
            traceparent=note.traceparent,
        )


def _storable(outcome: Outcome) -> Outcome:
    remote = outcome.remote
    return replace(
        outcome,
        message=storable(outcome.message),
        remote=Remote(storable(remote.id), storable(remote.url)) if remote else None,
        processing_handle=storable(outcome.processing_handle),
    )


def _event_of(held: Held, outcome: Outcome, first: Remote | None, now: datetime) -> Message | None:
    if not outcome.announce:
        return None
    ids = {
        "delivery_id": show_id(DELIVERY, held.id),
        "post_id": show_id(POST, held.post_id),
        "channel_id": show_id(CHANNEL, held.channel_id),
    }
    match outcome.state:
        case State.PUBLISHED:
            publish_time = Timestamp()
            publish_time.FromDatetime(now)
            return PostPublished(
                **ids,
                revision=held.revision,
                network=held.network,
                remote_id=first.id if first else "",
                remote_url=first.url if first else "",
                publish_time=publish_time,
                attempt=held.attempt,
            )
        case State.FAILED:
            assert outcome.failure_kind is not None
            return DeliveryFailed(
                **ids,
                revision=held.revision,
                kind=outcome.failure_kind,
                source=source_of(outcome.failure_kind),
                network_message=outcome.message,
                attempt=held.attempt,
            )
        case State.UNKNOWN:
            return DeliveryUnknown(
                **ids, revision=held.revision, reason=outcome.message, needs_person=outcome.needs_person
            )
        case State.PROCESSING:
            return DeliveryProcessing(**ids, revision=held.revision)
        case _:
            return None


def _columns(notes: Sequence[Note], now: datetime) -> dict[str, object]:
    outcomes = [note.outcome for note in notes]
    return {
        "now": now,
        "ids": [note.held.id for note in notes],
        "fences": [note.held.fence for note in notes],
        "done": [len(note.held.remotes) for note in notes],
        "expected": [",".join(note.expected) for note in notes],
        "states": [outcome.state.value for outcome in outcomes],
        "causes": [outcome.cause for outcome in outcomes],
        "act_times": [outcome.act_time for outcome in outcomes],
        "messages": [outcome.message for outcome in outcomes],
        "kinds": [outcome.failure_kind.value if outcome.failure_kind else "" for outcome in outcomes],
        "remote_ids": [outcome.remote.id if outcome.remote else None for outcome in outcomes],
        "remote_urls": [outcome.remote.url if outcome.remote else None for outcome in outcomes],
        "handles": [outcome.processing_handle for outcome in outcomes],
        "tries": [outcome.tries for outcome in outcomes],
        "finds": [outcome.finds for outcome in outcomes],
        "persons": [outcome.needs_person for outcome in outcomes],
        "trace_ids": [trace_id_of(note.traceparent) for note in notes],
    }


_MARK = text(
    """
    WITH marked AS (
        UPDATE delivery AS d SET state = 'publishing', act_time = :lease
        FROM unnest(CAST(:ids AS uuid[]), CAST(:fences AS bigint[])) AS h (id, fence)
        WHERE d.id = h.id AND d.fence = h.fence AND d.state IN ('claimed', 'publishing')
        RETURNING d.id, d.attempt, d.traceparent
    ), noted AS (
        INSERT INTO delivery_change (delivery_id, time, state, cause, attempt, trace_id)
        SELECT id, :now, 'publishing', 'worker', attempt, split_part(traceparent, '-', 2) FROM marked
    )
    SELECT id FROM marked
    """
)

_RECORD = text(
    """
    WITH wanted AS (
        SELECT * FROM unnest(
            CAST(:ids AS uuid[]), CAST(:fences AS bigint[]), CAST(:done AS int[]), CAST(:expected AS text[]),
            CAST(:states AS text[]), CAST(:causes AS text[]), CAST(:act_times AS timestamptz[]),
            CAST(:messages AS text[]), CAST(:kinds AS text[]), CAST(:remote_ids AS text[]),
            CAST(:remote_urls AS text[]), CAST(:handles AS text[]), CAST(:tries AS int[]), CAST(:finds AS int[]),
            CAST(:persons AS bool[]), CAST(:trace_ids AS text[])
        ) AS w (id, fence, done, expected, state, cause, act_time, message, kind, remote_id, remote_url, handle, tries,
            finds, person, trace_id)
    ), moved AS (
        UPDATE delivery AS d SET
            state = w.state, act_time = w.act_time, network_message = w.message, failure_kind = w.kind,
            remote_ids = CASE WHEN w.remote_id IS NULL THEN d.remote_ids ELSE d.remote_ids || w.remote_id END,
            remote_urls = CASE WHEN w.remote_id IS NULL THEN d.remote_urls ELSE d.remote_urls || w.remote_url END,
            processing_handle = w.handle, finds = w.finds, needs_person = w.person,
            tries = CASE WHEN w.remote_id IS NULL THEN coalesce(w.tries, d.tries) ELSE 0 END
        FROM wanted AS w
        WHERE d.id = w.id AND d.fence = w.fence AND d.state = ANY(string_to_array(w.expected, ','))
          AND cardinality(d.remote_ids) = w.done
        RETURNING d.id, d.attempt, d.remote_ids[1] AS first_id, d.remote_urls[1] AS first_url, w.state, w.cause,
            w.message, w.trace_id
    ), ended AS (
        UPDATE attempt AS a SET end_time = :now, outcome = moved.state, network_message = moved.message
        FROM moved WHERE a.delivery_id = moved.id AND a.number = moved.attempt AND moved.state <> 'publishing'
    ), noted AS (
        INSERT INTO delivery_change (delivery_id, time, state, cause, attempt, network_message, trace_id)
        SELECT id, :now, state, cause, attempt, message, trace_id FROM moved
    )
    SELECT id, first_id, first_url FROM moved
    """
)
