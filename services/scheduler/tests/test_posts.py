"""Creating, reading, editing, scheduling and cancelling posts on a real PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from regie.scheduler.events.v1.scheduler_events_pb2 import (
    DueVariant,
    PostCancelled,
    PostCreated,
    PostDue,
    PostEdited,
    PostScheduled,
)
from regie_chassis.database import Database
from regie_chassis.ids import CHANNEL, POST, new_id, show_id
from regie_chassis.paging import InvalidPageSize, InvalidPageToken
from regie_chassis.testing.clock import FakeClock
from regie_scheduler import idempotency
from regie_scheduler.idempotency import InvalidRequestId, RequestIdReused
from regie_scheduler.posts import planning, queries
from regie_scheduler.posts.content import Content, InvalidPost, Segment
from regie_scheduler.posts.due import dispatch_due
from regie_scheduler.posts.planning import Command, RevisionConflict, WallTime
from regie_scheduler.posts.queries import PostNotFound
from regie_scheduler.posts.states import PostState, PostStateConflict
from regie_scheduler.posts.times import NonexistentTime, TimeInPast
from regie_scheduler.posts.wakeup import Alarm
from regie_scheduler.posts.zones import InvalidZone
from sqlalchemy import text

HOUR = timedelta(hours=1)
PARIS = WallTime("2026-07-01T09:30:00", "Europe/Paris")


@pytest.fixture
def command(workspace_id: UUID, clock: FakeClock) -> Callable[..., Command]:
    def make(post: queries.Post, *, request_id: str = "", workspace: UUID | None = None) -> Command:
        return Command(workspace or workspace_id, post.id, request_id, clock.now())

    return make


@pytest.fixture
def edit(database: Database, command: Callable[..., Command]) -> Any:
    async def run(
        post: queries.Post,
        *,
        revision: int = 0,
        title: str | None = None,
        contents: tuple[Content, ...] = (),
        **whose: Any,
    ) -> queries.Post:
        async with database.transaction() as session:
            return await planning.edit_post(
                session, command(post, **whose), revision=revision, title=title, contents=contents
            )

    return run


@pytest.fixture
def schedule(database: Database, command: Callable[..., Command], alarm: Alarm) -> Any:
    async def run(post: queries.Post, wall_time: WallTime = PARIS, *, revision: int = 0, **whose: Any) -> queries.Post:
        async with database.transaction() as session:
            return await planning.schedule_post(
                session, command(post, **whose), wall_time=wall_time, revision=revision, alarm=alarm
            )

    return run


@pytest.fixture
def cancel(database: Database, command: Callable[..., Command]) -> Any:
    async def run(post: queries.Post, *, revision: int = 0, **whose: Any) -> queries.Post:
        async with database.transaction() as session:
            return await planning.cancel_post(session, command(post, **whose), revision=revision)

    return run


async def set_state(database: Database, post: queries.Post, state: PostState) -> None:
    async with database.transaction() as session:
        await session.execute(text("UPDATE post SET state = :state WHERE id = :id"), {"state": state, "id": post.id})


async def get(database: Database, workspace_id: UUID, post: queries.Post) -> queries.Post:
    async with database.reading() as session:
        return await queries.get_post(session, workspace_id=workspace_id, post_id=post.id)


async def states_told(database: Database, workspace_id: UUID, post: queries.Post) -> list[str]:
    async with database.reading() as session:
        changes, _ = await queries.get_timeline(session, workspace_id=workspace_id, post_id=post.id)
        return [change.state for change in changes]


async def test_a_post_without_a_time_is_a_draft(
    database: Database, create: Any, staged: Any, workspace_id: UUID
) -> None:
    post = await create(title="spring")
    assert (post.state, post.revision, post.publish_time, post.title) == (PostState.DRAFT, 1, None, "spring")
    assert [one.post_id for one in await staged(PostCreated)] == [show_id(POST, post.id)]
    assert await staged(PostScheduled) == []
    assert await get(database, workspace_id, post) == post


async def test_a_post_with_a_time_is_scheduled_at_once(create: Any, staged: Any, clock: FakeClock) -> None:
    post = await create(leaves=HOUR, channels=3)
    assert (post.state, post.publish_time) == (PostState.SCHEDULED, clock.now() + HOUR)
    (scheduled,) = await staged(PostScheduled)
    assert scheduled.publish_time.ToDatetime(clock.now().tzinfo) == post.publish_time
    assert len(scheduled.channel_ids) == 3


async def test_posts_of_several_states_are_one_list(
    database: Database, create: Any, cancel: Any, workspace_id: UUID
) -> None:
    draft, scheduled, cancelled = await create(), await create(leaves=HOUR), await create()
    await cancel(cancelled)
    async with database.reading() as session:
        page = await queries.list_posts(
            session,
            workspace_id=workspace_id,
            page_size=0,
            page_token="",
            states={PostState.DRAFT, PostState.SCHEDULED},
        )
    assert [post.id for post in page.items] == [scheduled.id, draft.id]


async def test_an_edit_that_changes_nothing_is_none(create: Any, edit: Any, staged: Any) -> None:
    post = await create(title="spring", channels=2)
    contents = tuple(content_of(variant) for variant in post.variants)
    assert await edit(post) == post
    assert await edit(post, title="spring", contents=contents, revision=1) == post
    assert await staged(PostEdited) == []
    turned = await edit(post, contents=contents[::-1])
    assert (turned.revision, [one.content for one in turned.variants]) == (
        2,
        [one.content for one in post.variants[::-1]],
    )
    with pytest.raises(RevisionConflict):
        await edit(post, title="spring", contents=contents, revision=1)


def content_of(variant: queries.Variant) -> Content:
    stored = DueVariant.FromString(variant.content)
    segments = [Segment(segment.text, []) for segment in stored.segments]
    return Content(stored.channel_id, segments, stored.visibility, stored.language)


async def test_another_time_is_another_revision_and_the_same_is_none(create: Any, schedule: Any, staged: Any) -> None:
    first = await schedule(await create())
    assert first.revision == 2
    assert await schedule(first) == first
    moved = await schedule(first, WallTime("2026-07-01T10:30:00", "Europe/Paris"), revision=2)
    assert moved.revision == 3
    assert [one.revision for one in await staged(PostScheduled)] == [2, 3]
    with pytest.raises(RevisionConflict):
        await schedule(first, revision=2)


async def test_the_second_of_a_time_that_comes_twice_is_another_time(create: Any, schedule: Any) -> None:
    post = await schedule(await create(), WallTime("2026-10-25T02:30:00", "Europe/Paris"))
    later = await schedule(post, WallTime("2026-10-25T02:30:00", "Europe/Paris", "second"))
    assert later.publish_time - post.publish_time == HOUR


async def test_a_post_that_has_moved_on_is_not_cancelled_by_who_saw_it_before(
    create: Any, edit: Any, cancel: Any
) -> None:
    post = await create(leaves=HOUR)
    await edit(post, title="autumn")
    with pytest.raises(RevisionConflict):
        await cancel(post, revision=1)
    assert (await cancel(post, revision=2)).state is PostState.CANCELLED


async def test_a_post_that_cannot_be_published_is_not_kept(database: Database, create: Any, staged: Any) -> None:
    with pytest.raises(InvalidPost):
        await create(title="\0")
    with pytest.raises(TimeInPast):
        await create(leaves=-HOUR)
    assert await staged(PostCreated) == []


async def test_a_repeated_request_gives_the_same_post_even_when_its_time_has_passed(
    create: Any, staged: Any, clock: FakeClock
) -> None:
    leaves = clock.now() + HOUR
    first = await create(leaves=HOUR, request_id="r1")
    await clock.advance(HOUR * 2)
    again = await create(leaves=leaves - clock.now(), request_id="r1")
    assert again == first
    assert len(await staged(PostCreated)) == 1


async def test_the_same_request_sent_twice_at_once_makes_one_post(create: Any, staged: Any) -> None:
    posts = await asyncio.gather(*[create(request_id="r1") for _ in range(5)])
    assert len({post.id for post in posts}) == 1
    assert len(await staged(PostCreated)) == 1


async def test_without_a_request_id_every_call_counts(create: Any) -> None:
    assert (await create()).id != (await create()).id


async def test_a_failed_request_can_be_repeated(create: Any) -> None:
    with pytest.raises(TimeInPast):
        await create(leaves=-HOUR, request_id="r1")
    assert (await create(leaves=HOUR, request_id="r1")).state is PostState.SCHEDULED


async def test_a_request_id_stands_for_one_call(create: Any, cancel: Any) -> None:
    post = await create(request_id="r1")
    with pytest.raises(RequestIdReused):
        await cancel(post, request_id="r1")
    with pytest.raises(InvalidRequestId):
        await create(request_id="r" * 999)


async def test_old_requests_are_forgotten(database: Database, create: Any, clock: FakeClock) -> None:
    first = await create(request_id="r1")
    async with database.transaction() as session:
        await idempotency.purge(session, now=clock.now() + idempotency.KEEP)
    assert (await create(request_id="r1")).id == first.id
    async with database.transaction() as session:
        await idempotency.purge(session, now=clock.now() + idempotency.KEEP + HOUR)
    assert (await create(request_id="r1")).id != first.id


async def test_another_workspace_sees_and_touches_nothing(
    database: Database, create: Any, edit: Any, schedule: Any, cancel: Any, clock: FakeClock
) -> None:
    post, other = await create(), new_id()
    for act in (edit, schedule, cancel):
        with pytest.raises(PostNotFound):
            await act(post, workspace=other)
    with pytest.raises(PostNotFound):
        await get(database, other, post)
    with pytest.raises(PostNotFound):
        await states_told(database, other, post)
    async with database.reading() as session:
        page = await queries.list_posts(session, workspace_id=other, page_size=0, page_token="", states=())
    assert page.items == []


async def test_posts_asked_for_together_are_answered_each_to_its_own_workspace(
    database: Database, create: Any, workspace_id: UUID
) -> None:
    post, other = await create(), await create()
    wanted = [
        queries.Wanted(workspace_id, other.id),
        queries.Wanted(new_id(), post.id),
        queries.Wanted(workspace_id, post.id),
        queries.Wanted(workspace_id, post.id),
    ]
    async with database.reading() as session:
        assert await queries.get_posts(session, wanted) == [other, None, post, post]


async def test_an_edit_counts_the_revision_and_keeps_what_it_does_not_name(
    create: Any, edit: Any, staged: Any, content: Callable[..., Content]
) -> None:
    post = await create(leaves=HOUR, channels=2)
    titled = await edit(post, title="new")
    assert (titled.title, titled.revision, titled.state) == ("new", 2, PostState.SCHEDULED)
    assert titled.variants == post.variants
    rewritten = await edit(post, contents=(content("other words"),), revision=2)
    assert (rewritten.title, rewritten.revision, len(rewritten.variants)) == ("new", 3, 1)
    assert rewritten.publish_time == post.publish_time
    assert [one.revision for one in await staged(PostEdited)] == [2, 3]


async def test_an_edited_post_leaves_with_its_new_words(
    database: Database, create: Any, edit: Any, staged: Any, clock: FakeClock, content: Callable[..., Content]
) -> None:
    post = await create(leaves=HOUR)
    await edit(post, contents=(content("new words"),))
    await dispatch_due(database, now=clock.now() + HOUR)
    (due,) = await staged(PostDue)
    assert (due.revision, due.variants[0].segments[0].text) == (2, "new words")


async def test_an_edit_of_a_revision_that_is_gone_is_refused(create: Any, edit: Any) -> None:
    post = await create()
    await edit(post, title="one", revision=1)
    with pytest.raises(RevisionConflict, match="revision 2") as caught:
        await edit(post, title="two", revision=1)
    assert caught.value.reason == "REVISION_CONFLICT"


async def test_of_two_edits_at_once_on_one_revision_one_is_refused(create: Any, edit: Any) -> None:
    post = await create()
    results = await asyncio.gather(
        *[edit(post, title=str(number), revision=1) for number in range(4)], return_exceptions=True
    )
    assert sorted(type(one).__name__ for one in results) == ["Post", *["RevisionConflict"] * 3]


async def test_a_repeated_edit_changes_nothing(create: Any, edit: Any) -> None:
    post = await create()
    await edit(post, title="one", request_id="e1", revision=1)
    assert (await edit(post, title="one", request_id="e1", revision=1)).revision == 2
    with pytest.raises(RequestIdReused):
        await edit(await create(), title="one", request_id="e1")


async def test_editing_an_approved_post_returns_it_to_review(database: Database, create: Any, edit: Any) -> None:
    post = await create()
    await set_state(database, post, PostState.APPROVED)
    assert (await edit(post, title="new")).state is PostState.IN_REVIEW


async def test_what_has_left_cannot_be_edited_or_moved(
    database: Database, create: Any, edit: Any, schedule: Any, clock: FakeClock
) -> None:
    post = await create(leaves=HOUR)
    await dispatch_due(database, now=clock.now() + HOUR)
    for act in (edit, schedule):
        with pytest.raises(PostStateConflict) as caught:
            await act(post)
        assert caught.value.reason == "POST_STATE_CONFLICT"


async def test_scheduling_sets_and_moves_the_time(create: Any, schedule: Any, staged: Any) -> None:
    post = await create()
    planned = await schedule(post)
    assert (planned.publish_local_time, planned.time_zone) == ("2026-07-01T09:30:00", "Europe/Paris")
    assert planned.publish_time.isoformat() == "2026-07-01T07:30:00+00:00"
    moved = await schedule(post, WallTime("2026-07-01T09:30:00", "Asia/Tokyo"))
    assert moved.publish_time.isoformat() == "2026-07-01T00:30:00+00:00"
    assert [one.time_zone for one in await staged(PostScheduled)] == ["Europe/Paris", "Asia/Tokyo"]


@pytest.mark.parametrize(
    ("wall_time", "error"),
    [
        (WallTime("2026-07-01T09:30:00", "Nowhere"), InvalidZone),
        (WallTime("2020-07-01T09:30:00", "UTC"), TimeInPast),
        (WallTime("2026-03-29T02:30:00", "Europe/Paris"), NonexistentTime),
    ],
)
async def test_a_refused_time_leaves_the_old_one(
    database: Database, create: Any, schedule: Any, workspace_id: UUID, wall_time: WallTime, error: type[Exception]
) -> None:
    post = await create(leaves=HOUR)
    with pytest.raises(error):
        await schedule(post, wall_time)
    assert await get(database, workspace_id, post) == post


async def test_a_moved_post_leaves_at_its_new_time_only(
    database: Database, create: Any, schedule: Any, clock: FakeClock
) -> None:
    post = await create(leaves=HOUR)
    later = (clock.now() + HOUR * 3).replace(tzinfo=None).isoformat()
    await schedule(post, WallTime(later, "UTC"))
    assert await dispatch_due(database, now=clock.now() + HOUR) == 0
    assert await dispatch_due(database, now=clock.now() + HOUR * 3) == 1


@pytest.mark.parametrize("state", [PostState.DRAFT, PostState.IN_REVIEW, PostState.APPROVED])
async def test_what_has_not_left_is_cancelled_at_once(
    database: Database, create: Any, cancel: Any, staged: Any, state: PostState
) -> None:
    post = await create()
    await set_state(database, post, state)
    assert (await cancel(post)).state is PostState.CANCELLED
    assert len(await staged(PostCancelled)) == 1


async def test_a_dispatched_post_stays_so_until_its_deliveries_tell(
    database: Database, create: Any, cancel: Any, staged: Any, clock: FakeClock
) -> None:
    post = await create(leaves=HOUR)
    await dispatch_due(database, now=clock.now() + HOUR)
    cancelled = await cancel(post)
    assert (cancelled.state, cancelled.cancel_time) == (PostState.DISPATCHED, clock.now())
    await cancel(post)
    assert [one.revision for one in await staged(PostCancelled)] == [1]


@pytest.mark.parametrize("state", [PostState.PUBLISHED, PostState.FAILED, PostState.CANCELLED, PostState.MISSED])
async def test_what_is_over_cannot_be_cancelled(database: Database, create: Any, cancel: Any, state: PostState) -> None:
    post = await create()
    await set_state(database, post, state)
    with pytest.raises(PostStateConflict):
        await cancel(post)


async def test_the_timeline_tells_every_change_in_order(
    database: Database, create: Any, edit: Any, schedule: Any, cancel: Any, workspace_id: UUID
) -> None:
    post = await create()
    await schedule(post)
    await edit(post, title="new")
    await cancel(post)
    assert await states_told(database, workspace_id, post) == ["draft", "scheduled", "scheduled", "cancelled"]


async def test_pages_are_stable_while_posts_are_added(database: Database, create: Any, workspace_id: UUID) -> None:
    made = [(await create()).id for _ in range(5)]
    seen: list[UUID] = []
    token = ""
    async with database.reading() as session:
        for _ in range(3):
            page = await queries.list_posts(
                session, workspace_id=workspace_id, page_size=2, page_token=token, states=()
            )
            seen += [post.id for post in page.items]
            token = page.next_page_token
            await create()
    assert (seen, token) == (made[::-1], "")


async def test_posts_are_listed_by_state(database: Database, create: Any, workspace_id: UUID) -> None:
    planned = [(await create(leaves=HOUR)).id for _ in range(3)]
    await create()
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
    database: Database, create: Any, workspace_id: UUID
) -> None:
    large = Content(show_id(CHANNEL, new_id()), [Segment("x" * 100_000, [])] * 5, "", "")
    posts = [await create(contents=[large]) for _ in range(20)]
    listed: list[UUID] = []
    sizes = []
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
