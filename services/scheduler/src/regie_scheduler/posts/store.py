"""Writes of posts and of their variants."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from regie_scheduler.posts.content import StoredContent
from regie_scheduler.posts.post import Post, Variant
from regie_scheduler.posts.states import PostState, PostStateConflict, VariantState
from regie_scheduler.posts.times import PublishTime


async def insert_post(
    session: AsyncSession, post: Post, *, workspace_id: UUID, contents: Sequence[StoredContent], traceparent: str
) -> None:
    """Writes a new post with its variants."""
    await session.execute(
        _INSERT,
        {
            "id": post.id,
            "workspace_id": workspace_id,
            "title": post.title,
            "state": str(post.state),
            **_time_columns(post.time),
            "revision": post.revision,
            "create_time": post.create_time,
            "traceparent": traceparent,
        },
    )
    await _insert_variants(session, post.id, contents)


async def lock_post(session: AsyncSession, *, workspace_id: UUID, post_id: UUID) -> Post | None:
    """Returns a post and holds its row until the session ends; waits for another holder."""
    row = (await session.execute(_LOCK, {"workspace_id": workspace_id, "post_id": post_id})).one_or_none()
    if row is None:
        return None
    # A statement of its own: joined to the lock it would show the variants as they were before the wait.
    variants = await session.execute(_SELECT_VARIANTS, {"post_id": post_id})
    return Post(
        id=row.id,
        title=row.title,
        state=PostState(row.state),
        time=PublishTime(row.publish_local_time, row.time_zone, row.publish_time) if row.publish_time else None,
        revision=row.revision,
        create_time=row.create_time,
        update_time=row.update_time,
        cancel_time=row.cancel_time,
        variants=[Variant(content, VariantState(state), *rest) for content, state, *rest in variants],
    )


async def update_post(session: AsyncSession, existing: Post, updated: Post, *, traceparent: str | None = None) -> None:
    """Writes every column of a post but its variants; `traceparent` None keeps the stored one.

    Raises PostStateConflict when the row is no longer at the existing state and revision.
    """
    rows = await session.execute(
        _UPDATE,
        {
            "id": existing.id,
            "existing_state": str(existing.state),
            "existing_revision": existing.revision,
            "title": updated.title,
            "state": str(updated.state),
            **_time_columns(updated.time),
            "revision": updated.revision,
            "cancel_time": updated.cancel_time,
            "traceparent": traceparent,
            "update_time": updated.update_time,
        },
    )
    if rows.first() is None:
        raise PostStateConflict("the post has just changed; read it again")


async def replace_variants(session: AsyncSession, post_id: UUID, contents: Sequence[StoredContent]) -> None:
    """Writes other variants in place of a post's own."""
    await session.execute(_DELETE_VARIANTS, {"post_id": post_id})
    await _insert_variants(session, post_id, contents)


async def _insert_variants(session: AsyncSession, post_id: UUID, contents: Sequence[StoredContent]) -> None:
    await session.execute(
        _INSERT_VARIANTS,
        {
            "post_id": post_id,
            "channel_ids": [content.channel_id for content in contents],
            "contents": [content.content for content in contents],
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
    VALUES (:id, :workspace_id, :title, :state, :publish_local_time, :time_zone, :publish_time, :revision,
            :create_time, :create_time, :traceparent)
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
    SELECT id, title, state, publish_local_time, time_zone, publish_time, revision, create_time, update_time,
           cancel_time
    FROM post WHERE id = :post_id AND workspace_id = :workspace_id FOR UPDATE
    """
)
_SELECT_VARIANTS = text(
    """
    SELECT content, state, remote_id, remote_url, failure, CAST(remote_segments AS text), remove_time
    FROM variant WHERE post_id = :post_id ORDER BY position
    """
)
_UPDATE = text(
    """
    UPDATE post
    SET title = :title, state = :state, publish_local_time = :publish_local_time, time_zone = :time_zone,
        publish_time = :publish_time, revision = :revision, cancel_time = :cancel_time,
        traceparent = coalesce(:traceparent, traceparent), update_time = :update_time
    WHERE id = :id AND state = :existing_state AND revision = :existing_revision
    RETURNING id
    """
)
_DELETE_VARIANTS = text("DELETE FROM variant WHERE post_id = :post_id")
