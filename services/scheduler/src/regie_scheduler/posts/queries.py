"""Posts as they are read: one round trip for a post, keyset pages for many."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from regie_chassis.errors import NotFound
from regie_chassis.ids import POST, show_id
from regie_chassis.paging import PAGE_BYTES, Page, fitting, read_token, show_token, size_of
from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from regie_scheduler.posts.states import PostState
from regie_scheduler.posts.timeline import Change, list_changes

LIST = "posts"
TIMELINE = "timeline"
MOST_CHANGES = 5_000  # of a timeline in one answer
FRAME = 300  # bytes of an answer's item besides its texts


class PostNotFound(NotFound):
    """The caller's workspace has no such post."""


@dataclass(frozen=True, slots=True)
class Variant:
    """What a post says on one channel (a serialized `DueVariant`), and what the publisher told about it."""

    content: bytes
    state: str
    remote_id: str
    remote_url: str
    failure: str
    remote_segments: str
    """JSON: the parts that are out as [id, address], in order."""
    remove_time: datetime | None


@dataclass(frozen=True, slots=True)
class Post:
    """A post with its variants in their order."""

    id: UUID
    title: str
    state: PostState
    publish_local_time: str
    time_zone: str
    publish_time: datetime | None
    revision: int
    create_time: datetime
    update_time: datetime
    cancel_time: datetime | None
    variants: Sequence[Variant]


@dataclass(frozen=True, slots=True)
class Wanted:
    """A post that a caller of a workspace asks for."""

    workspace_id: UUID
    post_id: UUID


async def get_posts(session: AsyncSession, wanted: Sequence[Wanted]) -> list[Post | None]:
    """Returns the posts in the order in which they are wanted, None for what the workspace does not have.

    One round trip; callers that arrive together share it.
    """
    rows = await session.execute(
        _SELECT_WANTED,
        {
            "workspace_ids": [one.workspace_id for one in wanted],
            "post_ids": [one.post_id for one in wanted],
        },
    )
    found = {(row.workspace_id, row.id): _post(row) for row in rows}
    return [found.get((one.workspace_id, one.post_id)) for one in wanted]


async def get_post(session: AsyncSession, *, workspace_id: UUID, post_id: UUID) -> Post:
    """Returns a post. Raises PostNotFound."""
    (post,) = await get_posts(session, [Wanted(workspace_id, post_id)])
    if post is None:
        raise not_found(post_id)
    return post


async def list_posts(
    session: AsyncSession, *, workspace_id: UUID, page_size: int, page_token: str, states: Collection[PostState]
) -> Page[Post]:
    """Returns a page of posts in one of the states, or in any. Raises InvalidPageToken or InvalidPageSize.

    Pages are cut by id, which grows with time of creation: a post made meanwhile appears on none of the later pages
    and moves nothing on them. A page ends early before its posts pass `MAX_BYTES`.
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
    rows = await session.execute(_SELECT_PAGE[min(len(states), 2)], parameters)
    found = rows.all()
    posts = [_post(row) for row in found[:size]]
    more = bool(found) and found[0].found > len(posts)
    return Page(posts, show_token(LIST, posts[-1].id) if more else "")


def bytes_of(post: Post) -> int:
    """Returns about how many bytes a post takes in an answer."""
    said = sum(
        len(one.content) + len(one.remote_id) + len(one.remote_url) + 4 * len(one.failure) for one in post.variants
    )
    return FRAME + 4 * len(post.title) + said


async def get_timeline(
    session: AsyncSession, *, workspace_id: UUID, post_id: UUID, page_token: str = ""
) -> tuple[Sequence[Change], str]:
    """Returns a post's changes, the oldest first, up to what one answer carries, and the token of the rest.

    Raises PostNotFound and InvalidPageToken.
    """
    after = read_token(TIMELINE, page_token).int if page_token else 0
    rows = await session.execute(_EXISTS, {"workspace_id": workspace_id, "post_id": post_id})
    if rows.first() is None:
        raise not_found(post_id)
    changes = await list_changes(session, post_id, after=after, limit=MOST_CHANGES)
    page = fitting([change for _, change in changes], lambda change: FRAME + 4 * len(change.detail))
    more = len(page) < len(changes) or len(changes) == MOST_CHANGES
    return page, show_token(TIMELINE, UUID(int=changes[len(page) - 1][0])) if more else ""


def not_found(post_id: UUID) -> PostNotFound:
    """Returns the error for a post that this workspace does not have; it tells nothing of other workspaces."""
    return PostNotFound(f"there is no post {show_id(POST, post_id)}; list the posts for their ids", field="post_id")


def _post(row: Row[Any]) -> Post:
    told = zip(
        row.contents,
        row.states,
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
        publish_local_time=row.publish_local_time,
        time_zone=row.time_zone,
        publish_time=row.publish_time,
        revision=row.revision,
        create_time=row.create_time,
        update_time=row.update_time,
        cancel_time=row.cancel_time,
        variants=[Variant(*one) for one in told],
    )


_COLUMNS = """
    SELECT post.id, post.workspace_id, title, post.state, publish_local_time, time_zone, publish_time, revision,
           create_time, update_time, cancel_time, said.contents, said.states, said.remote_ids, said.remote_urls,
           said.failures, said.remote_segments, said.remove_times
"""
_SAID = """
    CROSS JOIN LATERAL (
        SELECT array_agg(content) AS contents, array_agg(state) AS states, array_agg(remote_id) AS remote_ids,
               array_agg(remote_url) AS remote_urls, array_agg(failure) AS failures,
               array_agg(CAST(remote_segments AS text)) AS remote_segments, array_agg(remove_time) AS remove_times
        FROM (SELECT * FROM variant WHERE post_id = post.id ORDER BY position) AS ordered
    ) AS said
"""
_SELECT_WANTED = text(
    _COLUMNS
    + """
    FROM unnest(CAST(:workspace_ids AS uuid[]), CAST(:post_ids AS uuid[])) AS wanted (workspace_id, post_id)
    JOIN post ON post.id = wanted.post_id AND post.workspace_id = wanted.workspace_id
    """
    + _SAID
)
# One statement for each shape, no state, one, several: a plan for "this state or any" could use no index. Sizes are
# summed before any content is read, which `octet_length` does without fetching it; `found` counts what would have come
# without the cut by bytes.
_SELECT_PAGE = [
    text(
        _COLUMNS
        + f""", found FROM (
            SELECT *, sum(bytes) OVER (ORDER BY id DESC) - bytes AS bytes_before, count(*) OVER () AS found FROM (
                SELECT *, {FRAME} + (
                    SELECT coalesce(sum(octet_length(content) + octet_length(failure) + octet_length(remote_url)), 0)
                    FROM variant WHERE variant.post_id = post.id
                ) AS bytes
                FROM post WHERE workspace_id = :workspace_id {by_state}
                AND id < :before ORDER BY id DESC LIMIT :size
            ) AS sized
        ) AS post
        """
        + _SAID
        + " WHERE bytes_before < :max_bytes ORDER BY post.id DESC"
    )
    for by_state in ("", " AND state = :state", " AND state = ANY(CAST(:states AS text[]))")
]
_EXISTS = text("SELECT 1 FROM post WHERE id = :post_id AND workspace_id = :workspace_id")
