"""Writes down what became of deliveries: state, attempt, history and event in one statement and one transaction.

Every write carries the fence under which its delivery was taken. One that no longer holds changes nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

import structlog
from google.protobuf.message import Message
from regie.publisher.events.v1.publisher_events_pb2 import (
    DeliveryFailed,
    DeliveryProcessing,
    DeliveryUnknown,
    PostPublished,
    RemoteSegment,
)
from regie_chassis.ids import CHANNEL, DELIVERY, POST, show_id
from regie_chassis.outbox import fitting, stage
from regie_chassis.telemetry import trace_id_of
from regie_chassis.text import storable
from regie_chassis.timestamps import timestamp
from regie_networks.draft import Remote
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from regie_publisher import standing
from regie_publisher.deliveries.delivery import FIND_DELAY, LEASE, Cause, Held, Note, Outcome, State
from regie_publisher.deliveries.judging import source_of, while_in_doubt
from regie_publisher.polls import plan
from regie_publisher.telemetry import tell_outcomes

log = structlog.get_logger()


async def record(session: AsyncSession, notes: Sequence[Note], *, now: datetime) -> list[bool]:
    """Writes outcomes down and says them. Returns for each whether its delivery was still held.

    Repeatable: a note that was written already changes nothing, and counts as no longer held.
    """
    notes = [_with(note, _storable(while_in_doubt(note.held, note.outcome, now))) for note in notes]
    # Rows are locked in the order of their ids everywhere, so that a cancellation and a batch never deadlock.
    rows = (await session.execute(_RECORD, _columns(sorted(notes, key=lambda note: note.held.id), now))).all()
    written = {row.id: [Remote(*one) for one in zip(row.remote_ids, row.remote_urls, strict=True)] for row in rows}
    taken = {row.id: row for row in rows if row.taken}
    kept = [
        replace(note, outcome=_taken(note.outcome, taken[note.held.id])) if note.held.id in taken else note
        for note in notes
        if note.held.id in written
    ]
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
                time=now,
                traceparent=note.traceparent,
            )
    published = [note for note in kept if note.outcome.state is State.PUBLISHED]
    firsts = [(note, next(iter(written[note.held.id]), None)) for note in published]
    await plan(session, firsts, now=now)
    failed_lately = {row.id for row in rows if row.failed_lately}
    await _act_on_channels(session, kept, failed_lately, now)
    tell_outcomes(session, kept)
    # An attempt whose post belongs to another delivery ends here, as if it were no longer held.
    return [note.held.id in written and note.held.id not in taken for note in notes]


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
        _SAVE_HANDLE,
        {
            "id": held.id,
            "fence": held.fence,
            "name": storable(name),
            "value": storable(value),
            "lease": now + LEASE,
        },
    )
    return rows.scalar_one_or_none() is not None


async def _act_on_channels(
    session: AsyncSession, notes: Sequence[Note], failed_lately: Collection[UUID], now: datetime
) -> None:
    """Once for each channel, in the order of their ids, so that two batches never wait for one another.

    `failed_lately` are the deliveries at whose channels something is left to clear: most have nothing.
    """
    worked = [note.held for note in notes if note.outcome.remote and note.outcome.cause is Cause.WORKER]
    if proven := {held.channel_id for held in worked if held.id in failed_lately}:
        await standing.prove(session, proven, source=standing.Source.PUBLISH, now=now)
    await _block(session, [note for note in notes if note.outcome.block_until is not None], now)
    expired = {note.held.channel_id: note for note in notes if note.outcome.expired_version is not None}
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


async def _block(session: AsyncSession, notes: Sequence[Note], now: datetime) -> None:
    until: dict[UUID, datetime] = {}
    for note in sorted(notes, key=lambda note: note.outcome.block_until or now):
        until[note.held.channel_id] = note.outcome.block_until or now
    unread: dict[UUID, list[UUID]] = {}
    for note in notes:
        if note.outcome.state is State.UNKNOWN:
            unread.setdefault(note.held.channel_id, []).append(note.held.id)
    for channel_id in sorted(until):
        block_time = await standing.block(session, channel_id=channel_id, until=until[channel_id], now=now)
        if channel_id in unread and block_time is not None:
            values = {"channel_id": channel_id, "until": block_time, "told": unread[channel_id]}
            await session.execute(_POSTPONE_LOOKS, values)


def _taken(outcome: Outcome, row: Any) -> Outcome:
    """Returns what was written for a post that another delivery of the account holds already."""
    return replace(
        outcome,
        state=State.UNKNOWN,
        act_time=row.act_time,
        message=row.message,
        remote=None,
        needs_person=row.needs_person,
        announce=True,
        call_end=row.call_end_time,
        quiet_end=row.quiet_end_time,
    )


def _with(note: Note, outcome: Outcome) -> Note:
    return note if outcome is note.outcome else replace(note, outcome=outcome)


def _storable(outcome: Outcome) -> Outcome:
    """Returns the outcome with texts that PostgreSQL takes: itself where they are, as is usual."""
    remote = outcome.remote
    if remote is not None and storable(remote.id) != remote.id:
        remote = Remote(storable(remote.id), remote.url)
    texts = (outcome.message, outcome.detail, outcome.processing_handle)
    storables = tuple(storable(one) for one in texts)
    if remote is outcome.remote and storables == texts:
        return outcome
    message, detail, processing_handle = storables
    return replace(outcome, message=message, detail=detail, processing_handle=processing_handle, remote=remote)


def _event_of(held: Held, outcome: Outcome, remotes: Sequence[Remote], now: datetime) -> Message | None:
    if not outcome.announce:
        return None
    ids: dict[str, Any] = {
        "delivery_id": show_id(DELIVERY, held.id),
        "post_id": show_id(POST, held.post_id),
        "channel_id": show_id(CHANNEL, held.channel_id),
    }
    parts: dict[str, Any] = {
        "segments": [RemoteSegment(remote_id=remote.id, remote_url=remote.url) for remote in remotes],
        "segment_count": len(held.segment_keys),
    }
    match outcome.state:
        case State.PUBLISHED:
            return PostPublished(
                **ids,
                revision=held.revision,
                network=held.network,
                remote_id=remotes[0].id if remotes else "",
                remote_url=remotes[0].url if remotes else "",
                publish_time=timestamp(now),
                attempt=held.attempt,
                **parts,
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
                detail=outcome.detail,
                **parts,
            )
        case State.UNKNOWN:
            return DeliveryUnknown(
                **ids,
                revision=held.revision,
                reason=outcome.message,
                needs_person=outcome.needs_person,
                call_end_time=timestamp(outcome.call_end or held.call_end),
                quiet_end_time=timestamp(outcome.quiet_end or held.quiet_end),
                next_look_time=timestamp(outcome.act_time),
                **parts,
            )
        case State.PROCESSING:
            return DeliveryProcessing(**ids, revision=held.revision, **parts)
        case State.PUBLISHING | State.PENDING if outcome.remote is not None:
            return DeliveryProcessing(**ids, revision=held.revision, **parts)
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
        "causes": [outcome.cause.value for outcome in outcomes],
        "act_times": [outcome.act_time for outcome in outcomes],
        "messages": [outcome.message for outcome in outcomes],
        "details": [outcome.detail for outcome in outcomes],
        "kinds": [outcome.failure_kind.value if outcome.failure_kind else "" for outcome in outcomes],
        "remote_ids": [outcome.remote.id if outcome.remote else None for outcome in outcomes],
        "remote_urls": [outcome.remote.url if outcome.remote else None for outcome in outcomes],
        "holds": [outcome.remote.id if outcome.remote else "" for outcome in outcomes],
        "handles": [outcome.processing_handle for outcome in outcomes],
        "tries": [outcome.tries for outcome in outcomes],
        "finds": [outcome.finds for outcome in outcomes],
        "persons": [outcome.needs_person for outcome in outcomes],
        "trace_ids": [trace_id_of(note.traceparent) for note in notes],
        "call_ends": [outcome.call_end for outcome in outcomes],
        "quiet_ends": [outcome.quiet_end for outcome in outcomes],
        "looks": [outcome.looks for outcome in outcomes],
        "proven": [outcome.proven for outcome in outcomes],
        "again": now + FIND_DELAY,
    }


_MARK = text(
    """
    WITH marked AS (
        UPDATE delivery AS d SET state = 'publishing', act_time = :lease
        FROM unnest(CAST(:ids AS uuid[]), CAST(:fences AS bigint[])) AS h (id, fence)
        WHERE d.id = h.id AND d.fence = h.fence AND d.state IN ('claimed', 'publishing')
        RETURNING d.id, d.attempt, d.traceparent, cardinality(d.remote_ids) AS segments_out
    ), noted AS (
        INSERT INTO delivery_change (delivery_id, time, state, cause, attempt, trace_id, segments_out)
        SELECT id, :now, 'publishing', 'worker', attempt, split_part(traceparent, '-', 2), segments_out FROM marked
    )
    SELECT id FROM marked
    """
)

_SAVE_HANDLE = text(
    """
    UPDATE delivery SET handles = handles || jsonb_build_object(CAST(:name AS text), CAST(:value AS text)),
        act_time = :lease
    WHERE id = :id AND fence = :fence AND state = 'claimed' RETURNING id
    """
)

# A post belongs to one delivery of an account. Where another holds it, this delivery stays unknown: what a look took
# for its post is looked for again, and what a publish was answered with is a riddle for a person.
_RECORD = text(
    f"""
    WITH wanted AS (
        SELECT * FROM unnest(
            CAST(:ids AS uuid[]), CAST(:fences AS bigint[]), CAST(:done AS int[]), CAST(:expected AS text[]),
            CAST(:states AS text[]), CAST(:causes AS text[]), CAST(:act_times AS timestamptz[]),
            CAST(:messages AS text[]), CAST(:kinds AS text[]), CAST(:remote_ids AS text[]),
            CAST(:remote_urls AS text[]), CAST(:handles AS text[]), CAST(:tries AS int[]), CAST(:finds AS int[]),
            CAST(:persons AS bool[]), CAST(:trace_ids AS text[]), CAST(:call_ends AS timestamptz[]),
            CAST(:quiet_ends AS timestamptz[]), CAST(:looks AS int[]), CAST(:proven AS bool[]),
            CAST(:details AS text[]), CAST(:holds AS text[])
        ) AS w (id, fence, done, expected, state, cause, act_time, message, kind, remote_id, remote_url, handle, tries,
            finds, person, trace_id, call_end, quiet_end, looks, proven, detail, holds)
    ), held AS MATERIALIZED (
        SELECT w.*, d.channel_id FROM delivery AS d JOIN wanted AS w ON d.id = w.id
        WHERE d.fence = w.fence AND d.state = ANY(string_to_array(w.expected, ','))
          AND cardinality(d.remote_ids) = w.done
        ORDER BY d.id FOR UPDATE OF d
    ), claimed AS (
        INSERT INTO remote (network, account, remote_id, delivery_id, segment, time)
        SELECT c.network, c.server_url || ' ' || c.account, held.holds, held.id, held.done, :now
        FROM held JOIN channel AS c ON c.id = held.channel_id
        WHERE held.holds <> ''
        ORDER BY 1, 2, 3
        ON CONFLICT DO NOTHING
        RETURNING delivery_id
    ), judged AS MATERIALIZED (
        SELECT *, holds <> '' AND id NOT IN (SELECT delivery_id FROM claimed) AS taken FROM held
    ), moved AS (
        UPDATE delivery AS d SET
            state = CASE WHEN w.taken THEN 'unknown' ELSE w.state END,
            act_time = CASE WHEN NOT w.taken THEN w.act_time WHEN w.cause = 'find' THEN CAST(:again AS timestamptz) END,
            network_message = CASE WHEN w.taken
                THEN 'another delivery of this account holds the post that was named for this one: ' || w.remote_url
                ELSE w.message END,
            failure_kind = w.kind, detail = w.detail,
            remote_ids = CASE WHEN w.taken OR w.remote_id IS NULL THEN d.remote_ids
                ELSE d.remote_ids || w.remote_id END,
            remote_urls = CASE WHEN w.taken OR w.remote_id IS NULL THEN d.remote_urls
                ELSE d.remote_urls || w.remote_url END,
            processing_handle = w.handle, finds = w.finds,
            needs_person = w.person OR (w.taken AND w.cause <> 'find'),
            tries = CASE WHEN w.taken OR w.remote_id IS NULL THEN coalesce(w.tries, d.tries) ELSE 0 END,
            call_end_time = CASE WHEN w.taken THEN coalesce(d.call_end_time, :now)
                WHEN w.proven OR w.holds <> '' THEN NULL ELSE coalesce(w.call_end, d.call_end_time) END,
            quiet_end_time = CASE WHEN w.taken THEN coalesce(d.quiet_end_time, :now)
                WHEN w.proven OR w.holds <> '' THEN NULL ELSE coalesce(w.quiet_end, d.quiet_end_time) END,
            looks = CASE WHEN w.proven OR w.remote_id IS NOT NULL THEN 0 ELSE coalesce(w.looks, d.looks) END
        FROM judged AS w
        WHERE d.id = w.id
        RETURNING d.id, d.channel_id, d.attempt, d.remote_ids, d.remote_urls, d.state, w.cause, w.detail,
            d.network_message AS message, w.trace_id, w.taken, d.act_time, d.needs_person, d.call_end_time,
            d.quiet_end_time
    ), ended AS (
        UPDATE attempt AS a SET end_time = :now, outcome = moved.state, network_message = moved.message
        FROM moved WHERE a.delivery_id = moved.id AND a.number = moved.attempt AND moved.state <> 'publishing'
    ), noted AS (
        INSERT INTO delivery_change (delivery_id, time, state, cause, attempt, network_message, trace_id, detail,
            segments_out)
        SELECT id, :now, state, cause, attempt, message, trace_id, detail, cardinality(remote_ids) FROM moved
    )
    SELECT id, remote_ids, remote_urls, taken, act_time, message, needs_person, call_end_time, quiet_end_time,
        EXISTS (SELECT FROM channel WHERE id = moved.channel_id AND {standing.FAILED_LATELY}) AS failed_lately
    FROM moved
    """
)

# A network that tells a look to wait means every look at the account.
# The looks that were told to wait noted what the network asked for, which may be longer than the channel is blocked.
_POSTPONE_LOOKS = text(
    """
    UPDATE delivery SET act_time = :until WHERE id IN (
        SELECT id FROM delivery
        WHERE state IN ('processing', 'unknown') AND state = 'unknown' AND channel_id = :channel_id
          AND (act_time < :until OR id = ANY(CAST(:told AS uuid[])))
        FOR UPDATE SKIP LOCKED
    )
    """
)
