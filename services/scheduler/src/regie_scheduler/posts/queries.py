"""Posts as they are read: one round trip for a post, keyset pages for many."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from regie.ids.v1.prefixes import POST
from regie_chassis.boundary.errors import NotFound
from regie_chassis.boundary.ids import show_id
from regie_chassis.data.paging import PAGE_BYTES, Page, fitting, read_token, show_token, size_of
from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from regie_scheduler.posts.post import Post, Variant
from regie_scheduler.posts.states import PostState, VariantState
from regie_scheduler.posts.timeline import Change, DeliveryStatus, list_changes, list_delivery_statuses
from regie_scheduler.posts.times import PublishTime

LIST = "posts"
TIMELINE = "timeline"
MAX_CHANGES = 5_000  # of a timeline in one answer
FRAME = 300  # bytes of an answer's item besides its texts


class PostNotFound(NotFound):
    """The caller's workspace has no such post."""


@dataclass(frozen=True, slots=True)
class PostKey:
    """A post that a caller of a workspace asks for."""

    workspace_id: UUID
    post_id: UUID


async def get_posts(session: AsyncSession, keys: Sequence[PostKey]) -> list[Post | None]:
    """Returns the posts in the order of their keys, None for a post that the workspace does not have.

    One round trip; callers that arrive together share it.
    """
    rows = await session.execute(
        _SELECT_BY_KEY,
        {
            "workspace_ids": [key.workspace_id for key in keys],
            "post_ids": [key.post_id for key in keys],
        },
    )
    posts = {PostKey(row.workspace_id, row.id): _post(row) for row in rows}
    return [posts.get(key) for key in keys]


async def get_post(session: AsyncSession, *, workspace_id: UUID, post_id: UUID) -> Post:
    """Returns a post. Raises PostNotFound."""
    (post,) = await get_posts(session, [PostKey(workspace_id, post_id)])
    if post is None:
        raise not_found(post_id)
    return post


async def list_posts(
    session: AsyncSession, *, workspace_id: UUID, page_size: int, page_token: str, states: Collection[PostState]
) -> Page[Post]:
    """Returns a page of posts in one of the states, or in any. Raises InvalidPageToken or InvalidPageSize.

    Pages are cut by id, which grows with time of creation: a post made meanwhile appears on none of the later pages
    and moves nothing on them. A page ends early before its posts pass `PAGE_BYTES`.
    """
    size = size_of(page_size)
    parameters: dict[str, object] = {
        "workspace_id": workspace_id,
        "size": size + 1,
        "before": read_token(LIST, page_token),
        "max_bytes": PAGE_BYTES,
    }
    if len(states) == 1:
        parameters["state"] = str(next(iter(states)))
    elif states:
        parameters["states"] = [str(state) for state in states]
    rows = (await session.execute(_SELECT_PAGE[min(len(states), 2)], parameters)).all()
    posts = [_post(row) for row in rows[:size]]
    more = bool(rows) and rows[0].candidates > len(posts)
    return Page(posts, show_token(LIST, posts[-1].id) if more else "")


def bytes_of(post: Post) -> int:
    """Returns about how many bytes a post takes in an answer."""
    texts = sum(
        len(variant.content) + len(variant.remote_id) + len(variant.remote_url) + 4 * len(variant.failure)
        for variant in post.variants
    )
    return FRAME + 4 * len(post.title) + texts


async def list_timeline(
    session: AsyncSession, *, workspace_id: UUID, post_id: UUID, page_token: str = ""
) -> Page[Change | DeliveryStatus]:
    """Returns a post's changes, the oldest first, up to the size of one answer; the deliveries end the last page.

    Raises PostNotFound and InvalidPageToken.
    """
    after = read_token(TIMELINE, page_token).int if page_token else 0
    rows = await session.execute(_EXISTS, {"workspace_id": workspace_id, "post_id": post_id})
    if rows.first() is None:
        raise not_found(post_id)
    changes = await list_changes(session, post_id, after=after, limit=MAX_CHANGES)
    page = fitting([change for _, change in changes], lambda change: FRAME + 4 * len(change.detail))
    if len(page) < len(changes) or len(changes) == MAX_CHANGES:
        return Page(page, show_token(TIMELINE, UUID(int=changes[len(page) - 1][0])))
    return Page([*page, *await list_delivery_statuses(session, post_id)], "")


def not_found(post_id: UUID) -> PostNotFound:
    """Returns the error for a post that this workspace does not have; the same for one of another workspace."""
    return PostNotFound(f"there is no post {show_id(POST, post_id)}; list the posts for their ids", field="post_id")


def _post(row: Row[Any]) -> Post:
    variants = zip(
        row.contents,
        map(VariantState, row.states),
        row.remote_ids,
        row.remote_urls,
        row.failures,
        row.remote_segments,
        row.remove_times,
        strict=True,
    )
    return Post(
        id=row.id,
        title=row.title,
        state=PostState(row.state),
        time=PublishTime(row.publish_local_time, row.time_zone, row.publish_time) if row.publish_time else None,
        revision=row.revision,
        create_time=row.create_time,
        update_time=row.update_time,
        cancel_time=row.cancel_time,
        variants=[Variant(*columns) for columns in variants],
    )


_COLUMNS = """
    SELECT post.id, post.workspace_id, title, post.state, publish_local_time, time_zone, publish_time, revision,
           create_time, update_time, cancel_time, variants.contents, variants.states, variants.remote_ids,
           variants.remote_urls, variants.failures, variants.remote_segments, variants.remove_times
"""
_VARIANTS = """
    CROSS JOIN LATERAL (
        SELECT array_agg(content) AS contents, array_agg(state) AS states, array_agg(remote_id) AS remote_ids,
               array_agg(remote_url) AS remote_urls, array_agg(failure) AS failures,
               array_agg(CAST(remote_segments AS text)) AS remote_segments, array_agg(remove_time) AS remove_times
        FROM (SELECT * FROM variant WHERE post_id = post.id ORDER BY position) AS ordered
    ) AS variants
"""
_SELECT_BY_KEY = text(
    _COLUMNS
    + """
    FROM unnest(CAST(:workspace_ids AS uuid[]), CAST(:post_ids AS uuid[])) AS key (workspace_id, post_id)
    JOIN post ON post.id = key.post_id AND post.workspace_id = key.workspace_id
    """
    + _VARIANTS
)
# One statement for each shape, no state, one, several: a plan for "this state or any" could use no index. Sizes are
# summed before any content is read, which `octet_length` does without fetching it; `candidates` counts the posts
# before the cut by bytes.
_SELECT_PAGE = [
    text(
        _COLUMNS
        + f""", candidates FROM (
            SELECT *, sum(bytes) OVER (ORDER BY id DESC) - bytes AS bytes_before, count(*) OVER () AS candidates FROM (
                SELECT *, {FRAME} + (
                    SELECT coalesce(sum(octet_length(content) + octet_length(failure) + octet_length(remote_url)), 0)
                    FROM variant WHERE variant.post_id = post.id
                ) AS bytes
                FROM post WHERE workspace_id = :workspace_id {by_state}
                AND id < :before ORDER BY id DESC LIMIT :size
            ) AS sized
        ) AS post
        """
        + _VARIANTS
        + " WHERE bytes_before < :max_bytes ORDER BY post.id DESC"
    )
    for by_state in ("", " AND state = :state", " AND state = ANY(CAST(:states AS text[]))")
]
_EXISTS = text("SELECT 1 FROM post WHERE id = :post_id AND workspace_id = :workspace_id")
