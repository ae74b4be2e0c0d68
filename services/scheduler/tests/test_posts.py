"""Creating, reading and listing posts on a real PostgreSQL."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial
from uuid import UUID

import pytest
from regie.ids.v1.prefixes import CHANNEL, POST
from regie.scheduler.events.v1.scheduler_events_pb2 import (
    DueSegment,
    DueVariant,
    PostCreated,
    PostScheduled,
)
from regie_chassis.boundary.ids import new_id, show_id
from regie_chassis.data.database import Database
from regie_chassis.data.paging import InvalidPageSize, InvalidPageToken
from regie_local.testing.clock import FakeClock
from regie_local.testing.service_fixtures import Staged
from regie_scheduler.posts import queries
from regie_scheduler.posts.content import InvalidPost
from regie_scheduler.posts.due import dispatch_due
from regie_scheduler.posts.post import Post
from regie_scheduler.posts.queries import PostNotFound
from regie_scheduler.posts.states import PostState
from regie_scheduler.posts.times import TimeInPast
from regie_scheduler.testing import Planner, due_variant, time_of

HOUR = timedelta(hours=1)


async def test_a_post_without_a_time_is_a_draft(
    database: Database, planner: Planner, staged: Staged, workspace_id: UUID
) -> None:
    post = await planner.create(title="spring")
    assert (post.state, post.revision, post.time, post.title) == (PostState.DRAFT, 1, None, "spring")
    assert [(one.post_id, one.revision) for one in await staged(PostCreated)] == [(show_id(POST, post.id), 1)]
    assert await staged(PostScheduled) == []
    assert await planner.get(post) == post


async def test_a_post_with_a_time_is_scheduled_at_once(planner: Planner, staged: Staged, clock: FakeClock) -> None:
    post = await planner.create(leaves=HOUR, channels=3)
    assert (post.state, time_of(post).instant) == (PostState.SCHEDULED, clock.now() + HOUR)
    (scheduled,) = await staged(PostScheduled)
    assert scheduled.publish_time.ToDatetime(clock.now().tzinfo) == time_of(post).instant
    assert len(scheduled.channel_ids) == 3


async def test_the_answer_to_each_change_is_the_post_as_it_is_read(
    database: Database, planner: Planner, clock: FakeClock
) -> None:
    post = await planner.create(channels=2)
    assert await planner.get(post) == post
    scheduled = await planner.create(leaves=HOUR, channels=3)
    assert await planner.get(scheduled) == scheduled
    changes: list[Callable[[], Awaitable[Post]]] = [
        partial(planner.schedule, post),
        partial(planner.schedule, post),
        partial(planner.edit, post, title="autumn"),
        partial(planner.edit, post, variants=[due_variant("other words"), due_variant()]),
        partial(planner.edit, post, title="autumn"),
        partial(planner.cancel, post),
    ]
    for change in changes:
        await clock.advance(timedelta(minutes=1))
        answer = await change()
        assert await planner.get(post) == answer
    await dispatch_due(database, now=clock.now() + HOUR)
    for _ in range(2):
        answer = await planner.cancel(scheduled)
        assert await planner.get(scheduled) == answer


async def test_posts_of_several_states_are_one_list(database: Database, planner: Planner, workspace_id: UUID) -> None:
    draft, scheduled, cancelled = await planner.create(), await planner.create(leaves=HOUR), await planner.create()
    await planner.cancel(cancelled)
    async with database.reading() as session:
        page = await queries.list_posts(
            session,
            workspace_id=workspace_id,
            page_size=0,
            page_token="",
            states={PostState.DRAFT, PostState.SCHEDULED},
        )
    assert [post.id for post in page.items] == [scheduled.id, draft.id]


async def test_a_post_that_cannot_be_published_is_not_kept(
    database: Database, planner: Planner, staged: Staged
) -> None:
    with pytest.raises(InvalidPost):
        await planner.create(title="\0")
    with pytest.raises(TimeInPast):
        await planner.create(leaves=-HOUR)
    assert await staged(PostCreated) == []


async def test_another_workspace_sees_and_touches_nothing(
    database: Database, planner: Planner, clock: FakeClock
) -> None:
    post, other = await planner.create(), new_id()
    for act in (planner.edit, planner.schedule, planner.cancel):
        with pytest.raises(PostNotFound):
            await act(post, workspace=other)
    with pytest.raises(PostNotFound):
        await planner.get(post, workspace=other)
    with pytest.raises(PostNotFound):
        await planner.timeline(post, workspace=other)
    async with database.reading() as session:
        page = await queries.list_posts(session, workspace_id=other, page_size=0, page_token="", states=())
    assert page.items == []


async def test_posts_asked_for_together_are_answered_each_to_its_own_workspace(
    database: Database, planner: Planner, workspace_id: UUID
) -> None:
    post, other = await planner.create(), await planner.create()
    keys = [
        queries.PostKey(workspace_id, other.id),
        queries.PostKey(new_id(), post.id),
        queries.PostKey(workspace_id, post.id),
        queries.PostKey(workspace_id, post.id),
    ]
    async with database.reading() as session:
        assert await queries.get_posts(session, keys) == [other, None, post, post]


async def test_the_timeline_tells_every_change_in_order(
    database: Database, planner: Planner, workspace_id: UUID
) -> None:
    post = await planner.create()
    await planner.schedule(post)
    await planner.edit(post, title="new")
    await planner.cancel(post)
    assert [change.state for change in await planner.timeline(post)] == ["draft", "scheduled", "scheduled", "cancelled"]


async def test_pages_are_stable_while_posts_are_added(database: Database, planner: Planner, workspace_id: UUID) -> None:
    made = [(await planner.create()).id for _ in range(5)]
    seen: list[UUID] = []
    token = ""
    async with database.reading() as session:
        for _ in range(3):
            page = await queries.list_posts(
                session, workspace_id=workspace_id, page_size=2, page_token=token, states=()
            )
            seen += [post.id for post in page.items]
            token = page.next_page_token
            await planner.create()
    assert (seen, token) == (made[::-1], "")


async def test_posts_are_listed_by_state(database: Database, planner: Planner, workspace_id: UUID) -> None:
    planned = [(await planner.create(leaves=HOUR)).id for _ in range(3)]
    await planner.create()
    async with database.reading() as session:
        first = await queries.list_posts(
            session, workspace_id=workspace_id, page_size=2, page_token="", states={PostState.SCHEDULED}
        )
        rest = await queries.list_posts(
            session,
            workspace_id=workspace_id,
            page_size=2,
            page_token=first.next_page_token,
            states={PostState.SCHEDULED},
        )
    assert [post.id for post in [*first.items, *rest.items]] == planned[::-1]


@pytest.mark.parametrize("token", ["x", "é", "AAAA", "=", "A" * 1000, "MTIzNDU2Nzg5MDEyMzQ1Ng=="])
async def test_a_forged_page_token_is_refused(database: Database, workspace_id: UUID, token: str) -> None:
    with pytest.raises(InvalidPageToken):
        async with database.reading() as session:
            await queries.list_posts(session, workspace_id=workspace_id, page_size=0, page_token=token, states=())


@pytest.mark.parametrize("size", [-1, 201])
async def test_a_page_size_out_of_bounds_is_refused(database: Database, workspace_id: UUID, size: int) -> None:
    with pytest.raises(InvalidPageSize):
        async with database.reading() as session:
            await queries.list_posts(session, workspace_id=workspace_id, page_size=size, page_token="", states=())


async def test_a_page_of_large_posts_ends_before_it_passes_its_bytes(
    database: Database, planner: Planner, workspace_id: UUID
) -> None:
    large = DueVariant(channel_id=show_id(CHANNEL, new_id()), segments=[DueSegment(text="x" * 100_000)] * 5)
    posts = [await planner.create(variants=[large]) for _ in range(20)]
    listed: list[UUID] = []
    sizes: list[int] = []
    token = ""
    async with database.reading() as session:
        while not sizes or token:
            page = await queries.list_posts(
                session, workspace_id=workspace_id, page_size=200, page_token=token, states=()
            )
            listed += [post.id for post in page.items]
            sizes.append(len(page.items))
            token = page.next_page_token
    assert listed == [post.id for post in reversed(posts)]
    assert sizes == [9, 9, 2]
