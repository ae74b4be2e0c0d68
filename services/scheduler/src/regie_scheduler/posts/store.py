"""The rows behind a post, as they are written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from regie_scheduler.posts.content import StoredContent
from regie_scheduler.posts.states import PostState, PostStateConflict
from regie_scheduler.posts.times import PublishTime


@dataclass(frozen=True, slots=True)
class PostRow:
    """What may change of a post, read under its lock."""

    id: UUID
    title: str
    state: PostState
    time: PublishTime | None
    revision: int
    cancel_time: datetime | None
    traceparent: str


async def insert_post(
    session: AsyncSession,
    *,
    workspace_id: UUID,
    post_id: UUID,
    title: str,
    state: PostState,
    time: PublishTime | None,
    now: datetime,
    traceparent: str,
    contents: Sequence[StoredContent],
) -> None:
    """Writes a new post at revision 1 with its variants."""
    await session.execute(
        _INSERT,
        {
            "id": post_id,
            "workspace_id": workspace_id,
            "title": title,
            "state": str(state),
            **_time_columns(time),
            "now": now,
            "traceparent": traceparent if time else "",
        },
    )
    await _insert_variants(session, post_id, contents)


async def lock_post(session: AsyncSession, *, workspace_id: UUID, post_id: UUID) -> PostRow | None:
    """Returns a post and holds its row until the session ends; waits for whoever holds it."""
    rows = await session.execute(_LOCK, {"workspace_id": workspace_id, "post_id": post_id})
    row = rows.one_or_none()
    if row is None:
        return None
    time = PublishTime(row.publish_local_time, row.time_zone, row.publish_time) if row.publish_time else None
    return PostRow(row.id, row.title, PostState(row.state), time, row.revision, row.cancel_time, row.traceparent)


async def update_post(session: AsyncSession, known: PostRow, wanted: PostRow, *, now: datetime) -> None:
    """Writes what differs between the two. Raises PostStateConflict when the row is not as it is known."""
    rows = await session.execute(
        _UPDATE,
        {
            "id": known.id,
            "known_state": str(known.state),
            "known_revision": known.revision,
            "title": wanted.title,
            "state": str(wanted.state),
            **_time_columns(wanted.time),
            "revision": wanted.revision,
            "cancel_time": wanted.cancel_time,
            "traceparent": wanted.traceparent,
            "now": now,
        },
    )
    if rows.first() is None:
        raise PostStateConflict("the post has just changed; read it again")


async def replace_variants(session: AsyncSession, post_id: UUID, contents: Sequence[StoredContent]) -> None:
    """Writes other variants in place of a post's own."""
    await session.execute(_DELETE_VARIANTS, {"post_id": post_id})
    await _insert_variants(session, post_id, contents)


async def channels_of(session: AsyncSession, post_id: UUID) -> list[UUID]:
    """Returns the channels of a post in the order of its variants."""
    rows = await session.execute(_CHANNELS, {"post_id": post_id})
    return list(rows.scalars())


async def _insert_variants(session: AsyncSession, post_id: UUID, contents: Sequence[StoredContent]) -> None:
    await session.execute(
        _INSERT_VARIANTS,
        {
            "post_id": post_id,
            "channel_ids": [one.channel_id for one in contents],
            "contents": [one.content for one in contents],
        },
    )


def _time_columns(time: PublishTime | None) -> dict[str, object]:
    return {
        "publish_local_time": time.local_time if time else "",
        "time_zone": time.time_zone if time else "",
        "publish_time": time.instant if time else None,
    }


_INSERT = text(
    """
    INSERT INTO post (id, workspace_id, title, state, publish_local_time, time_zone, publish_time, revision,
                      create_time, update_time, traceparent)
    VALUES (:id, :workspace_id, :title, :state, :publish_local_time, :time_zone, :publish_time, 1, :now, :now,
            :traceparent)
    """
)
_INSERT_VARIANTS = text(
    """
    INSERT INTO variant (post_id, channel_id, position, content)
    SELECT CAST(:post_id AS uuid), channel_id, position, content
    FROM unnest(CAST(:channel_ids AS uuid[]), CAST(:contents AS bytea[]))
         WITH ORDINALITY AS given (channel_id, content, position)
    """
)
_LOCK = text(
    """
    SELECT id, title, state, publish_local_time, time_zone, publish_time, revision, cancel_time, traceparent
    FROM post WHERE id = :post_id AND workspace_id = :workspace_id FOR UPDATE
    """
)
_UPDATE = text(
    """
    UPDATE post
    SET title = :title, state = :state, publish_local_time = :publish_local_time, time_zone = :time_zone,
        publish_time = :publish_time, revision = :revision, cancel_time = :cancel_time, traceparent = :traceparent,
        update_time = :now
    WHERE id = :id AND state = :known_state AND revision = :known_revision
    RETURNING id
    """
)
_DELETE_VARIANTS = text("DELETE FROM variant WHERE post_id = :post_id")
_CHANNELS = text("SELECT channel_id FROM variant WHERE post_id = :post_id ORDER BY position")
