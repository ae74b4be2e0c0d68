"""Every change of a post, in the order in which they happened to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

API = "api"
DUE = "due"
PUBLISHER = "publisher"
MOST_DETAIL = 2000  # characters; networks answer with whole pages at times


@dataclass(frozen=True, slots=True)
class Change:
    """One change. `state` is the post's, or the delivery's where `channel_id` is set; `cause` is one of the above."""

    post_id: UUID
    time: datetime
    state: str
    cause: str
    detail: str = ""
    channel_id: UUID | None = None
    trace_id: str = ""


async def write_changes(session: AsyncSession, changes: Sequence[Change]) -> None:
    """Appends changes; the caller holds the rows of their posts, which makes the order of the ids that of events."""
    if not changes:
        return
    await session.execute(
        _INSERT,
        {
            "post_ids": [change.post_id for change in changes],
            "times": [change.time for change in changes],
            "states": [str(change.state) for change in changes],
            "causes": [change.cause for change in changes],
            "details": [change.detail for change in changes],
            "channel_ids": [change.channel_id for change in changes],
            "trace_ids": [change.trace_id for change in changes],
        },
    )


async def list_changes(session: AsyncSession, post_id: UUID, *, after: int, limit: int) -> list[tuple[int, Change]]:
    """Returns up to `limit` of a post's changes with their numbers, from after a number on, the oldest first."""
    rows = await session.execute(_SELECT_CHANGES, {"post_id": post_id, "after": after, "limit": limit})
    return [(row[0], Change(*row[1:])) for row in rows]


_INSERT = text(
    """
    INSERT INTO post_change (post_id, time, state, cause, detail, channel_id, trace_id)
    SELECT * FROM unnest(
        CAST(:post_ids AS uuid[]), CAST(:times AS timestamptz[]), CAST(:states AS text[]), CAST(:causes AS text[]),
        CAST(:details AS text[]), CAST(:channel_ids AS uuid[]), CAST(:trace_ids AS text[]))
    """
)

_SELECT_CHANGES = text(
    """
    SELECT id, post_id, time, state, cause, detail, channel_id, trace_id
    FROM post_change WHERE post_id = :post_id AND id > :after ORDER BY id LIMIT :limit
    """
)
