"""Reads the deliveries of a post, with their timelines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from regie_chassis.data.paging import Page, page_of, read_token, size_of
from regie_networks.draft import Remote
from regie_networks.errors import FailureKind
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from regie_publisher.deliveries.delivery import ENDED, Cause, State, remotes_of

MAX_PAGE = 100
LIST = "deliveries"
FRAME = 300  # bytes of an item in an answer besides its texts


class SegmentState(StrEnum):
    """The state of one segment: the delivery's state for the next segment to publish, else one of the others."""

    PENDING = "pending"
    CLAIMED = "claimed"
    PUBLISHING = "publishing"
    PROCESSING = "processing"
    PUBLISHED = "published"
    FAILED = "failed"
    UNKNOWN = "unknown"
    MISSED = "missed"
    CANCELLED = "cancelled"
    WAITING = "waiting"
    """It follows after the next segment."""
    NOT_SENT = "not_sent"
    """An earlier segment did not go out, so that this one will not either."""


@dataclass(frozen=True, slots=True)
class Change:
    """One change of a delivery's state."""

    time: datetime
    state: State
    cause: Cause
    attempt_number: int
    network_message: str
    trace_id: str
    detail: str
    segments_out: int


@dataclass(frozen=True, slots=True)
class DeliverySegment:
    """A segment of a delivery; `remote` is None until it is published."""

    state: SegmentState
    remote: Remote | None = None


@dataclass(frozen=True, slots=True)
class Delivery:
    """A delivery as people see it; the oldest change comes first."""

    id: UUID
    post_id: UUID
    channel_id: UUID
    revision: int
    state: State
    remote: Remote | None
    failure_kind: FailureKind | None
    network_message: str
    changes: Sequence[Change]
    call_end: datetime | None
    quiet_end: datetime | None
    next_lookup: datetime | None
    detail: str
    segments: Sequence[DeliverySegment]


async def list_deliveries(
    session: AsyncSession, *, workspace_id: UUID, post_id: UUID, page_size: int = 0, page_token: str = ""
) -> Page[Delivery]:
    """Returns a page of a post's deliveries, the oldest first; an unknown post has none.

    Raises InvalidPageToken or InvalidPageSize.
    """
    size = size_of(page_size, default=MAX_PAGE, most=MAX_PAGE)
    rows = await session.execute(
        _SELECT_PAGE,
        {
            "post_id": post_id,
            "workspace_id": workspace_id,
            "after": read_token(LIST, page_token) if page_token else UUID(int=0),
            "limit": size + 1,
        },
    )
    deliveries = await with_changes(session, rows.all())
    return page_of(deliveries, size=size, list_name=LIST, bytes_of=_bytes_of)


async def with_changes(session: AsyncSession, rows: Sequence[Any]) -> list[Delivery]:
    """Returns rows of `delivery` as people see them."""
    changes: dict[UUID, list[Change]] = {}
    for row in await session.execute(_SELECT_CHANGES, {"ids": [row.id for row in rows]}):
        change = Change(
            row.time,
            State(row.state),
            Cause(row.cause),
            row.attempt_number,
            row.network_message,
            row.trace_id,
            row.detail,
            row.segments_out,
        )
        changes.setdefault(row.delivery_id, []).append(change)
    return [_to_delivery(row, changes.get(row.id, [])) for row in rows]


def _bytes_of(delivery: Delivery) -> int:
    remote = len(delivery.remote.id) + len(delivery.remote.url) if delivery.remote else 0
    changes = sum(FRAME + 4 * len(change.network_message) for change in delivery.changes)
    return FRAME + 4 * (remote + len(delivery.network_message)) + changes


def _to_delivery(row: Any, changes: Sequence[Change]) -> Delivery:
    state, remotes = State(row.state), remotes_of(row)
    return Delivery(
        row.id,
        row.post_id,
        row.channel_id,
        row.revision,
        state,
        remotes[0] if remotes else None,
        FailureKind(row.failure_kind) if row.failure_kind else None,
        row.network_message,
        changes,
        row.call_end_time,
        row.quiet_end_time,
        row.next_action_time if state is State.UNKNOWN else None,
        row.detail,
        segments_of(state, remotes, len(row.segment_keys)),
    )


def segments_of(state: State, remotes: Sequence[Remote], count: int) -> list[DeliverySegment]:
    """Returns the state of each segment. Segments go out in order, and none follows one that did not go out."""
    public = [DeliverySegment(SegmentState.PUBLISHED, remote) for remote in remotes]
    rest = count - len(public)
    if rest <= 0:
        return public
    # A person may have said that the post is public although not all of its segments are.
    next_state = SegmentState.NOT_SENT if state is State.PUBLISHED else SegmentState(state)
    last_state = SegmentState.NOT_SENT if state in ENDED else SegmentState.WAITING
    return [*public, DeliverySegment(next_state), *[DeliverySegment(last_state)] * (rest - 1)]


_SELECT_PAGE = text(
    """
    SELECT * FROM delivery WHERE post_id = :post_id AND workspace_id = :workspace_id AND id > :after
    ORDER BY id LIMIT :limit
    """
)

_SELECT_CHANGES = text("SELECT * FROM delivery_change WHERE delivery_id = ANY(CAST(:ids AS uuid[])) ORDER BY id")
