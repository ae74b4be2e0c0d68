"""Makes deliveries of the scheduler's events. Handlers: one transaction of the consumer, no network, repeatable."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from regie.publisher.events.v1.publisher_events_pb2 import DeliveryCancelled, DeliveryFailed
from regie.scheduler.events.v1.scheduler_events_pb2 import DueVariant, PostCancelled, PostDue
from regie_chassis.clock import Clock
from regie_chassis.database import after_commit
from regie_chassis.ids import CHANNEL, DELIVERY, POST, new_id, parse_id, show_id
from regie_chassis.messaging import Event
from regie_chassis.outbox import stage
from regie_chassis.telemetry import trace_id_of
from regie_networks.contract import Connector
from regie_networks.errors import FailureKind
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from regie_publisher.deliveries.delivery import Cause, Outcome, State
from regie_publisher.deliveries.judging import source_of
from regie_publisher.standing import LONG_BLOCK, block_words
from regie_publisher.telemetry import tell_end


@dataclass(slots=True)
class _Row:
    """A delivery before it is written."""

    id: UUID
    event: Event[PostDue]
    post_id: UUID
    channel_id: UUID
    variant: DueVariant
    network: str = ""
    state: State = State.PENDING
    act_time: datetime | None = None
    kind: FailureKind | None = None
    detail: str = ""
    keys: str = ""
    attempt: int = 0


async def on_post_due(
    session: AsyncSession,
    events: Sequence[Event[PostDue]],
    *,
    connectors: Mapping[str, Connector],
    clock: Clock,
    wake: Callable[[], None],
) -> None:
    """Makes one delivery for each variant. One that cannot go out is made all the same, and says why it failed."""
    now = clock.now()
    rows = [
        _Row(
            id=new_id(),
            event=event,
            post_id=parse_id(POST, event.message.post_id),
            channel_id=parse_id(CHANNEL, variant.channel_id),
            variant=variant,
        )
        for event in events
        for variant in event.message.variants
    ]
    if not rows:
        return
    await _lock_posts(session, [row.post_id for row in rows], shared=True)
    cancelled = await _cancelled(session, rows)
    channels = await _channels(session, rows)
    for row in rows:
        _decide(row, channels.get((row.event.workspace_id, row.channel_id)), cancelled, connectors, now)
    written = await _insert(session, rows, now)
    if len(written) < len(rows):
        written |= await _insert_blocked(session, [row for row in rows if row.id not in written], now)
    for row in rows:
        if row.id in written:
            _say(session, row, now)
    after_commit(session, wake)


async def on_post_cancelled(session: AsyncSession, events: Sequence[Event[PostCancelled]], *, clock: Clock) -> None:
    """Stops every delivery of which no call has begun, or none that may still land.

    The cancellation is remembered: for a `PostDue` that comes after it, and for a delivery whose call is on its way
    now and turns out to have had no effect.
    """
    now = clock.now()
    columns = {
        "workspace_ids": [event.workspace_id for event in events],
        "post_ids": [parse_id(POST, event.message.post_id) for event in events],
        "revisions": [event.message.revision for event in events],
        "traceparents": [event.traceparent for event in events],
        "trace_ids": [trace_id_of(event.traceparent) for event in events],
        "now": now,
    }
    await _lock_posts(session, columns["post_ids"], shared=False)
    await session.execute(_REMEMBER, columns)
    for row in await session.execute(_CANCEL, columns):
        message = DeliveryCancelled(**_ids(row.id, row.post_id, row.channel_id), revision=row.revision)
        tell_end(session, row, Outcome(State.CANCELLED, Cause.POST_CANCELLED), traceparent=row.traceparent)
        stage(
            session,
            message,
            workspace_id=row.workspace_id,
            time=now,
            traceparent=row.traceparent,
        )


def _decide(
    row: _Row,
    channel: Any,
    cancelled: Mapping[tuple[UUID, UUID], int],
    connectors: Mapping[str, Connector],
    now: datetime,
) -> None:
    """Sets what the delivery begins as. Keys are chosen here, once and for all attempts."""
    row.network = channel.network if channel else ""
    connector = connectors.get(row.network)
    if row.event.message.revision <= cancelled.get((row.event.workspace_id, row.post_id), -1):
        row.state = State.CANCELLED
    elif channel is None:
        _fail(row, FailureKind.UNSUPPORTED, "there is no such channel in this workspace; choose another for the post")
    elif channel.state == "disconnected":
        _fail(row, FailureKind.AUTH_EXPIRED, "the channel is disconnected; connect it again")
    elif connector is None:
        _fail(row, FailureKind.UNSUPPORTED, f"{row.network} is not a network here")
    elif not row.variant.segments:
        _fail(row, FailureKind.CONTENT_REJECTED, "there is nothing to publish; a post has at least one part")
    else:
        row.keys = " ".join(connector.new_key(now) for _ in row.variant.segments)
        blocked = channel.block_time or now
        row.act_time = max(now, min(blocked, row.event.message.miss_time.ToDatetime(UTC)))
        if blocked - now >= LONG_BLOCK:
            row.detail = block_words(blocked)


async def _insert_blocked(session: AsyncSession, rows: Sequence[_Row], now: datetime) -> set[UUID]:
    """Writes those as failed that another revision keeps from going out; the rest was received before."""
    for row in rows:
        message = "another revision of this post is out on this channel, or on its way; a post goes out once"
        _fail(row, FailureKind.DUPLICATE_CONTENT, message)
        row.act_time, row.keys = None, ""
    return await _insert(session, rows, now)


def _fail(row: _Row, kind: FailureKind, detail: str) -> None:
    row.state, row.kind, row.detail = State.FAILED, kind, detail


def _say(session: AsyncSession, row: _Row, now: datetime) -> None:
    ids = _ids(row.id, row.post_id, row.channel_id)
    revision = row.event.message.revision
    message: DeliveryCancelled | DeliveryFailed
    if row.state is State.CANCELLED:
        message = DeliveryCancelled(**ids, revision=revision)
    elif row.kind is not None:
        message = DeliveryFailed(**ids)
        message.revision, message.kind, message.source = revision, row.kind, source_of(row.kind)
        message.detail, message.segment_count = row.detail, len(row.variant.segments)
    else:
        return
    cause = Cause.POST_CANCELLED if row.state is State.CANCELLED else Cause.POST_DUE
    tell_end(session, row, Outcome(row.state, cause, failure_kind=row.kind), traceparent=row.event.traceparent)
    stage(
        session,
        message,
        workspace_id=row.event.workspace_id,
        time=now,
        traceparent=row.event.traceparent,
    )


def _ids(delivery_id: UUID, post_id: UUID, channel_id: UUID) -> dict[str, Any]:
    return {
        "delivery_id": show_id(DELIVERY, delivery_id),
        "post_id": show_id(POST, post_id),
        "channel_id": show_id(CHANNEL, channel_id),
    }


async def _lock_posts(session: AsyncSession, post_ids: Any, *, shared: bool) -> None:
    # Without it, a due and a cancellation of one post that are handled at the same time would not see each other.
    await session.execute(_LOCK_POSTS_SHARED if shared else _LOCK_POSTS, {"ids": post_ids})


async def _cancelled(session: AsyncSession, rows: Sequence[_Row]) -> dict[tuple[UUID, UUID], int]:
    found = await session.execute(_FIND_CANCELLATIONS, {"ids": [row.post_id for row in rows]})
    return {(row.workspace_id, row.post_id): row.revision for row in found}


async def _channels(session: AsyncSession, rows: Sequence[_Row]) -> dict[tuple[UUID, UUID], Any]:
    found = await session.execute(_FIND_CHANNELS, {"ids": list({row.channel_id for row in rows})})
    return {(row.workspace_id, row.id): row for row in found}


async def _insert(session: AsyncSession, rows: Sequence[_Row], now: datetime) -> set[UUID]:
    messages = [row.event.message for row in rows]
    found = await session.execute(
        _INSERT,
        {
            "now": now,
            "ids": [row.id for row in rows],
            "workspace_ids": [row.event.workspace_id for row in rows],
            "post_ids": [row.post_id for row in rows],
            "channel_ids": [row.channel_id for row in rows],
            "revisions": [message.revision for message in messages],
            "networks": [row.network for row in rows],
            "states": [row.state.value for row in rows],
            "act_times": [row.act_time for row in rows],
            "contents": [row.variant.SerializeToString(deterministic=True) for row in rows],
            "keys": [row.keys for row in rows],
            "due_times": [message.publish_time.ToDatetime(UTC) for message in messages],
            "miss_times": [message.miss_time.ToDatetime(UTC) for message in messages],
            "traceparents": [row.event.traceparent for row in rows],
            "kinds": [row.kind.value if row.kind else "" for row in rows],
            "details": [row.detail for row in rows],
        },
    )
    return set(found.scalars())


_POST_KEYS = """
    (
        SELECT DISTINCT hashtextextended(CAST(id AS text), 0) AS key FROM unnest(CAST(:ids AS uuid[])) AS id
        ORDER BY key
    ) AS keys
"""
_LOCK_POSTS_SHARED = text(f"SELECT pg_advisory_xact_lock_shared(key) FROM {_POST_KEYS}")
_LOCK_POSTS = text(f"SELECT pg_advisory_xact_lock(key) FROM {_POST_KEYS}")

_FIND_CANCELLATIONS = text(
    "SELECT workspace_id, post_id, revision FROM cancellation WHERE post_id = ANY(CAST(:ids AS uuid[]))"
)

_FIND_CHANNELS = text(
    "SELECT id, workspace_id, network, state, block_time FROM channel WHERE id = ANY(CAST(:ids AS uuid[]))"
)

_INSERT = text(
    """
    WITH made AS (
        INSERT INTO delivery (id, workspace_id, post_id, channel_id, revision, network, state, act_time, content,
            segment_keys, compose_time, due_time, miss_time, traceparent, failure_kind, detail)
        SELECT id, workspace_id, post_id, channel_id, revision, network, state, act_time, content,
            CASE keys WHEN '' THEN CAST('{}' AS text[]) ELSE string_to_array(keys, ' ') END,
            :now, due_time, miss_time, traceparent, kind, detail
        FROM unnest(
            CAST(:ids AS uuid[]), CAST(:workspace_ids AS uuid[]), CAST(:post_ids AS uuid[]),
            CAST(:channel_ids AS uuid[]), CAST(:revisions AS bigint[]), CAST(:networks AS text[]),
            CAST(:states AS text[]), CAST(:act_times AS timestamptz[]), CAST(:contents AS bytea[]),
            CAST(:keys AS text[]), CAST(:due_times AS timestamptz[]), CAST(:miss_times AS timestamptz[]),
            CAST(:traceparents AS text[]), CAST(:kinds AS text[]), CAST(:details AS text[])
        ) AS v (id, workspace_id, post_id, channel_id, revision, network, state, act_time, content, keys, due_time,
            miss_time, traceparent, kind, detail)
        ON CONFLICT DO NOTHING
        RETURNING id, state, detail, traceparent
    ), noted AS (
        INSERT INTO delivery_change (delivery_id, time, state, cause, attempt, detail, trace_id)
        SELECT id, :now, state, CASE state WHEN 'cancelled' THEN 'PostCancelled' ELSE 'PostDue' END, 0,
            detail, split_part(traceparent, '-', 2)
        FROM made
    )
    SELECT id FROM made
    """
)

_REMEMBER = text(
    """
    INSERT INTO cancellation (workspace_id, post_id, revision, time)
    SELECT workspace_id, post_id, max(revision), :now
    FROM unnest(CAST(:workspace_ids AS uuid[]), CAST(:post_ids AS uuid[]), CAST(:revisions AS bigint[]))
        AS c (workspace_id, post_id, revision)
    GROUP BY workspace_id, post_id
    ON CONFLICT (workspace_id, post_id)
        DO UPDATE SET revision = greatest(cancellation.revision, excluded.revision), time = excluded.time
    """
)

_CANCEL = text(
    """
    WITH wanted AS (
        SELECT * FROM unnest(
            CAST(:workspace_ids AS uuid[]), CAST(:post_ids AS uuid[]), CAST(:revisions AS bigint[]),
            CAST(:traceparents AS text[]), CAST(:trace_ids AS text[])
        ) AS c (workspace_id, post_id, revision, traceparent, trace_id)
    ), locked AS (
        SELECT d.id, w.traceparent, w.trace_id FROM delivery AS d
        JOIN wanted AS w ON d.post_id = w.post_id AND d.workspace_id = w.workspace_id AND d.revision <= w.revision
        WHERE d.state IN ('pending', 'claimed') AND d.remote_ids = '{}' AND d.call_end_time IS NULL
        ORDER BY d.id FOR UPDATE OF d
    ), stopped AS (
        UPDATE delivery AS d SET state = 'cancelled', act_time = NULL, fence = d.fence + 1
        FROM locked AS w
        WHERE d.id = w.id
        RETURNING d.id, d.workspace_id, d.post_id, d.channel_id, d.network, d.revision, d.attempt, w.traceparent,
            w.trace_id
    ), noted AS (
        INSERT INTO delivery_change (delivery_id, time, state, cause, attempt, trace_id)
        SELECT id, :now, 'cancelled', 'PostCancelled', attempt, trace_id FROM stopped
    )
    SELECT * FROM stopped
    """
)
