"""Tells what happened to a post's deliveries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from regie_chassis.paging import Page, page_of, read_token
from regie_networks.draft import Remote
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from regie_publisher.deliveries.delivery import State

MOST = 100
LIST = "deliveries"
FRAME = 300  # bytes of an item in an answer besides its texts


@dataclass(frozen=True, slots=True)
class Change:
    """One change of a delivery's state."""

    time: datetime
    state: str
    cause: str
    attempt: int
    network_message: str
    trace_id: str
    detail: str
    segments_out: int


@dataclass(frozen=True, slots=True)
class DeliverySegment:
    """A part of a delivery: published, the delivery's state for the part that is next, waiting, or not_sent."""

    state: str
    remote: Remote | None = None


@dataclass(frozen=True, slots=True)
class Delivery:
    """A delivery as people see it; the changes are the oldest first."""

    id: UUID
    post_id: UUID
    channel_id: UUID
    revision: int
    state: str
    remote: Remote | None
    failure_kind: str
    network_message: str
    changes: Sequence[Change]
    call_end: datetime | None
    quiet_end: datetime | None
    next_look: datetime | None
    detail: str
    segments: Sequence[DeliverySegment]


async def list_deliveries(
    session: AsyncSession, *, workspace_id: UUID, post_id: UUID, page_token: str = ""
) -> Page[Delivery]:
    """Returns the deliveries of a post, the oldest first, up to what one answer carries.

    None for a post that is not known here. Raises InvalidPageToken.
    """
    rows = await session.execute(
        _SELECT_PAGE,
        {
            "post_id": post_id,
            "workspace_id": workspace_id,
            "after": read_token(LIST, page_token) if page_token else UUID(int=0),
            "most": MOST + 1,
        },
    )
    found = await with_changes(session, rows.all())
    return page_of(found, size=MOST, list_name=LIST, bytes_of=_bytes_of)


async def with_changes(session: AsyncSession, rows: Sequence[Any]) -> list[Delivery]:
    """Returns rows of `delivery` as people see them."""
    found = await session.execute(_SELECT_CHANGES, {"ids": [row.id for row in rows]})
    changes: dict[UUID, list[Change]] = {}
    for row in found:
        change = Change(
            row.time,
            row.state,
            row.cause,
            row.attempt,
            row.network_message,
            row.trace_id,
            row.detail,
            row.segments_out,
        )
        changes.setdefault(row.delivery_id, []).append(change)
    return [_delivery(row, changes.get(row.id, [])) for row in rows]


def _bytes_of(delivery: Delivery) -> int:
    remote = len(delivery.remote.id) + len(delivery.remote.url) if delivery.remote else 0
    changes = sum(FRAME + 4 * len(change.network_message) for change in delivery.changes)
    return FRAME + 4 * (remote + len(delivery.network_message)) + changes


def _delivery(row: Any, changes: Sequence[Change]) -> Delivery:
    remote = Remote(row.remote_ids[0], row.remote_urls[0]) if row.remote_ids else None
    return Delivery(
        row.id,
        row.post_id,
        row.channel_id,
        row.revision,
        row.state,
        remote,
        row.failure_kind,
        row.network_message,
        changes,
        row.call_end_time,
        row.quiet_end_time,
        row.act_time if row.state == State.UNKNOWN else None,
        row.detail,
        segments_of(row.state, row.remote_ids, row.remote_urls, len(row.segment_keys)),
    )


def segments_of(state: str, remote_ids: Sequence[str], remote_urls: Sequence[str], count: int) -> list[DeliverySegment]:
    """Returns where each part of a delivery stands. Parts go out in order, and none after one that did not."""
    public = [DeliverySegment("published", Remote(*one)) for one in zip(remote_ids, remote_urls, strict=True)]
    rest = count - len(public)
    if rest <= 0:
        return public
    # A person may have said that the post is there although not all of its parts are.
    ended = state in (State.PUBLISHED, State.FAILED, State.MISSED, State.CANCELLED)
    following = DeliverySegment("not_sent" if state == State.PUBLISHED else state)
    return [*public, following, *[DeliverySegment("not_sent" if ended else "waiting")] * (rest - 1)]


_SELECT_PAGE = text(
    """
    SELECT * FROM delivery WHERE post_id = :post_id AND workspace_id = :workspace_id AND id > :after
    ORDER BY id LIMIT :most
    """
)

_SELECT_CHANGES = text("SELECT * FROM delivery_change WHERE delivery_id = ANY(CAST(:ids AS uuid[])) ORDER BY id")
