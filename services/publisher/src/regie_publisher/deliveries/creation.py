"""Creates deliveries from PostDue. The handler runs in the consumer's transaction, calls no network, is repeatable."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from regie.ids.v1.prefixes import CHANNEL, POST
from regie.scheduler.events.v1.scheduler_events_pb2 import DueVariant, PostDue
from regie_chassis.boundary.ids import new_id, parse_id
from regie_chassis.data.bulk import Columns
from regie_chassis.data.database import after_commit
from regie_chassis.events.messaging import Event
from regie_chassis.process.clock import Clock
from regie_networks.contract import Connector
from regie_networks.errors import FailureKind
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from regie_publisher.channels.channel import ChannelState
from regie_publisher.channels.restrictions import LONG_BLOCK, pause_text
from regie_publisher.deliveries.cancellation import find_cancellations, lock_posts
from regie_publisher.deliveries.delivery import Cause, Outcome, State
from regie_publisher.deliveries.events import stage_outcome


@dataclass(slots=True)
class _NewDelivery:
    """A delivery before it is inserted."""

    event: Event[PostDue]
    post_id: UUID
    channel_id: UUID
    variant: DueVariant
    id: UUID = field(default_factory=new_id)
    network: str = ""
    state: State = State.PENDING
    next_action_time: datetime | None = None
    kind: FailureKind | None = None
    detail: str = ""
    keys: str = ""
    attempt_number: int = 0

    @property
    def workspace_id(self) -> UUID:
        return self.event.workspace_id

    @property
    def revision(self) -> int:
        return self.event.message.revision

    def fail(self, kind: FailureKind, detail: str) -> None:
        """Makes it a delivery that ends before its first attempt."""
        self.state, self.kind, self.detail = State.FAILED, kind, detail
        self.next_action_time, self.keys = None, ""


async def on_post_due(
    session: AsyncSession,
    events: Sequence[Event[PostDue]],
    *,
    connectors: Mapping[str, Connector],
    clock: Clock,
    wake: Callable[[], None],
) -> None:
    """Creates one delivery for each variant. A variant that cannot be published gets a failed delivery with the reason.

    `wake` is called after the commit.
    """
    now = clock.now()
    deliveries = [
        _NewDelivery(
            event, parse_id(POST, event.message.post_id), parse_id(CHANNEL, variant.channel_id), variant=variant
        )
        for event in events
        for variant in event.message.variants
    ]
    if not deliveries:
        return
    post_ids = [delivery.post_id for delivery in deliveries]
    await lock_posts(session, post_ids, shared=True)
    cancelled = await find_cancellations(session, post_ids)
    channels = await _channels(session, deliveries)
    for delivery in deliveries:
        _decide(delivery, channels.get((delivery.workspace_id, delivery.channel_id)), cancelled, connectors, now)
    inserted = await _insert(session, deliveries, now)
    if len(inserted) < len(deliveries):
        inserted |= await _insert_duplicates(session, [one for one in deliveries if one.id not in inserted], now)
    for delivery in deliveries:
        if delivery.id in inserted:
            _stage_end(session, delivery, now)
    after_commit(session, wake)


def _decide(
    delivery: _NewDelivery,
    channel: Any,
    cancelled: Mapping[tuple[UUID, UUID], int],
    connectors: Mapping[str, Connector],
    now: datetime,
) -> None:
    """Sets the first state. Segment keys are chosen here, once for all attempts."""
    delivery.network = channel.network if channel else ""
    connector = connectors.get(delivery.network)
    if delivery.revision <= cancelled.get((delivery.workspace_id, delivery.post_id), -1):
        delivery.state = State.CANCELLED
    elif channel is None:
        message = "there is no such channel in this workspace; choose another for the post"
        delivery.fail(FailureKind.UNSUPPORTED, message)
    elif channel.state == ChannelState.DISCONNECTED:
        delivery.fail(FailureKind.AUTH_EXPIRED, "the channel is disconnected; connect it again")
    elif connector is None:
        delivery.fail(FailureKind.UNSUPPORTED, f"{delivery.network} is not a network here")
    elif not delivery.variant.segments:
        message = "there is nothing to publish; a post has at least one part"
        delivery.fail(FailureKind.CONTENT_REJECTED, message)
    else:
        delivery.keys = " ".join(connector.new_key(now) for _ in delivery.variant.segments)
        blocked = channel.block_time or now
        miss_time = delivery.event.message.miss_time.ToDatetime(UTC)
        delivery.next_action_time = max(now, min(blocked, miss_time))
        if blocked - now >= LONG_BLOCK:
            delivery.detail = pause_text(blocked)


async def _insert_duplicates(session: AsyncSession, deliveries: Sequence[_NewDelivery], now: datetime) -> set[UUID]:
    """Inserts a failed delivery where another revision is open or published; repeated events insert nothing."""
    message = "another revision of this post is out on this channel, or on its way; a post goes out once"
    for delivery in deliveries:
        delivery.fail(FailureKind.DUPLICATE_CONTENT, message)
    return await _insert(session, deliveries, now)


def _stage_end(session: AsyncSession, delivery: _NewDelivery, now: datetime) -> None:
    if delivery.state is State.PENDING:
        return
    cause = Cause.POST_CANCELLED if delivery.state is State.CANCELLED else Cause.POST_DUE
    outcome = Outcome(delivery.state, cause, failure_kind=delivery.kind, detail=delivery.detail)
    stage_outcome(
        session,
        delivery,
        outcome,
        time=now,
        traceparent=delivery.event.traceparent,
        segment_count=len(delivery.variant.segments),
    )


async def _channels(session: AsyncSession, deliveries: Sequence[_NewDelivery]) -> dict[tuple[UUID, UUID], Any]:
    rows = await session.execute(_FIND_CHANNELS, {"ids": list({delivery.channel_id for delivery in deliveries})})
    return {(row.workspace_id, row.id): row for row in rows}


async def _insert(session: AsyncSession, deliveries: Sequence[_NewDelivery], now: datetime) -> set[UUID]:
    rows = await session.execute(_INSERT, {"now": now, **_MADE.parameters(map(_row, deliveries))})
    return set(rows.scalars())


def _row(delivery: _NewDelivery) -> tuple[object, ...]:
    """Returns the delivery's values in the order of _MADE."""
    message = delivery.event.message
    return (
        delivery.id,
        delivery.workspace_id,
        delivery.post_id,
        delivery.channel_id,
        message.revision,
        delivery.network,
        delivery.state.value,
        delivery.next_action_time,
        delivery.variant.SerializeToString(deterministic=True),
        delivery.keys,
        message.publish_time.ToDatetime(UTC),
        message.miss_time.ToDatetime(UTC),
        delivery.event.traceparent,
        delivery.kind.value if delivery.kind else "",
        delivery.detail,
    )


_FIND_CHANNELS = text(
    "SELECT id, workspace_id, network, state, block_time FROM channel WHERE id = ANY(CAST(:ids AS uuid[]))"
)

_MADE = Columns(
    id="uuid",
    workspace_id="uuid",
    post_id="uuid",
    channel_id="uuid",
    revision="bigint",
    network="text",
    state="text",
    next_action_time="timestamptz",
    content="bytea",
    keys="text",
    due_time="timestamptz",
    miss_time="timestamptz",
    traceparent="text",
    failure_kind="text",
    detail="text",
)

_INSERT = text(
    f"""
    WITH made AS (
        INSERT INTO delivery (id, workspace_id, post_id, channel_id, revision, network, state, next_action_time,
            content, segment_keys, compose_time, due_time, miss_time, traceparent, failure_kind, detail)
        SELECT id, workspace_id, post_id, channel_id, revision, network, state, next_action_time, content,
            CASE keys WHEN '' THEN CAST('{{}}' AS text[]) ELSE string_to_array(keys, ' ') END,
            :now, due_time, miss_time, traceparent, failure_kind, detail
        FROM {_MADE.unnest}
        ON CONFLICT DO NOTHING
        RETURNING id, state, detail, traceparent
    ), noted AS (
        INSERT INTO delivery_change (delivery_id, time, state, cause, attempt_number, detail, trace_id)
        SELECT id, :now, state, CASE state WHEN 'cancelled' THEN 'PostCancelled' ELSE 'PostDue' END, 0,
            detail, split_part(traceparent, '-', 2)
        FROM made
    )
    SELECT id FROM made
    """
)
