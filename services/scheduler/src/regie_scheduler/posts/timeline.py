"""Changes of a post, in the order in which they happened."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from regie.scheduler.events.v1.scheduler_events_pb2 import DueVariant
from regie_chassis.data.bulk import Columns
from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from regie_scheduler.posts.states import ChangeCause, PostState, VariantState

MAX_DETAIL = 2000  # characters; networks answer with whole pages at times


@dataclass(frozen=True, slots=True)
class Change:
    """One change of the post's own state."""

    post_id: UUID
    time: datetime
    state: PostState
    cause: ChangeCause
    detail: str = ""
    trace_id: str = ""


@dataclass(frozen=True, slots=True)
class DeliveryStatus:
    """The newest state of one delivery that the publisher reported."""

    channel_id: UUID
    time: datetime
    state: VariantState
    detail: str


async def write_changes(session: AsyncSession, changes: Sequence[Change]) -> None:
    """Appends changes; the caller holds the rows of their posts, so that the ids follow the order of the changes."""
    if changes:
        await session.execute(_INSERT, _CHANGES.parameters_of(changes))


async def list_changes(session: AsyncSession, post_id: UUID, *, after: int, limit: int) -> list[tuple[int, Change]]:
    """Returns up to `limit` changes of a post with their numbers, those after the number `after`, the oldest first."""
    rows = await session.execute(_SELECT_CHANGES, {"post_id": post_id, "after": after, "limit": limit})
    return [
        (number, Change(post_id, time, PostState(state), ChangeCause(cause), detail, trace_id))
        for number, time, state, cause, detail, trace_id in rows
    ]


async def list_delivery_statuses(session: AsyncSession, post_id: UUID) -> list[DeliveryStatus]:
    """Returns the reported deliveries of a post, the oldest report first."""
    rows = await session.execute(_SELECT_STATUSES, {"post_id": post_id, "published": str(VariantState.PUBLISHED)})
    return [DeliveryStatus(row.channel_id, row.state_time, VariantState(row.state), _detail(row)) for row in rows]


def _detail(row: Row[Any]) -> str:
    if row.state == VariantState.PUBLISHED:
        return str(row.remote_url)
    reason = ": ".join(text for text in (row.failure_kind, row.failure) if text)
    if not row.segments_out:
        return reason
    count = len(DueVariant.FromString(row.partly_public_content).segments)
    segments = f"{row.segments_out} of {count} parts are out, from {row.remote_url}"
    return f"{reason} ({segments})" if reason else segments


_CHANGES = Columns(post_id="uuid", time="timestamptz", state="text", cause="text", detail="text", trace_id="text")

_INSERT = text(f"INSERT INTO post_change ({_CHANGES.names}) SELECT {_CHANGES.names} FROM {_CHANGES.unnest}")

_SELECT_CHANGES = text(
    """
    SELECT id, time, state, cause, detail, trace_id
    FROM post_change WHERE post_id = :post_id AND id > :after ORDER BY id LIMIT :limit
    """
)

_SELECT_STATUSES = text(
    """
    SELECT channel_id, state, state_time, failure_kind, failure, remote_url,
           jsonb_array_length(remote_segments) AS segments_out,
           CASE WHEN jsonb_array_length(remote_segments) > 0 AND state <> :published THEN content END
               AS partly_public_content
    FROM variant WHERE post_id = :post_id AND state_time IS NOT NULL ORDER BY state_time, position
    """
)
