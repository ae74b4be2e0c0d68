"""Editing, scheduling and cancelling posts on a real PostgreSQL."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from uuid import UUID

import pytest
from regie.scheduler.events.v1.scheduler_events_pb2 import (
    DueVariant,
    PostCancelled,
    PostDue,
    PostEdited,
    PostScheduled,
)
from regie.scheduler.v1.posts_service_pb2 import POST_STATE_CANCELLED, POST_STATE_DISPATCHED
from regie_chassis.data.database import Database
from regie_local.testing.clock import FakeClock
from regie_local.testing.service_fixtures import Staged
from regie_scheduler.idempotency import RequestIdReused
from regie_scheduler.posts.due import dispatch_due
from regie_scheduler.posts.planning import RevisionConflict, WallTime
from regie_scheduler.posts.post import Post
from regie_scheduler.posts.states import PostState, PostStateConflict
from regie_scheduler.posts.times import NonexistentTime, TimeInPast
from regie_scheduler.posts.zones import InvalidZone
from regie_scheduler.testing import Planner, due_variant, time_of
from sqlalchemy import text

HOUR = timedelta(hours=1)


async def set_state(database: Database, post: Post, state: PostState) -> None:
    async with database.transaction() as session:
        await session.execute(text("UPDATE post SET state = :state WHERE id = :id"), {"state": state, "id": post.id})


async def test_an_edit_that_changes_nothing_is_none(planner: Planner, staged: Staged) -> None:
    post = await planner.create(title="spring", channels=2)
    contents = [DueVariant.FromString(variant.content) for variant in post.variants]
    assert await planner.edit(post) == post
    assert await planner.edit(post, title="spring", variants=contents, revision=1) == post
    assert await staged(PostEdited) == []
    turned = await planner.edit(post, variants=contents[::-1])
    assert (turned.revision, [one.content for one in turned.variants]) == (
        2,
        [one.content for one in post.variants[::-1]],
    )
    with pytest.raises(RevisionConflict):
        await planner.edit(post, title="spring", variants=contents, revision=1)


async def test_another_time_is_another_revision_and_the_same_is_none(planner: Planner, staged: Staged) -> None:
    first = await planner.schedule(await planner.create())
    assert first.revision == 2
    assert await planner.schedule(first) == first
    moved = await planner.schedule(first, WallTime("2026-07-01T10:30:00", "Europe/Paris"), revision=2)
    assert moved.revision == 3
    for spelling in ("2026-07-01T10:30", "2026-07-01T10:30:00.000"):
        assert (await planner.schedule(moved, WallTime(spelling, "Europe/Paris"))).revision == 3
    assert [one.revision for one in await staged(PostScheduled)] == [2, 3]
    with pytest.raises(RevisionConflict):
        await planner.schedule(first, revision=2)


async def test_the_second_of_a_time_that_comes_twice_is_another_time(planner: Planner) -> None:
    post = await planner.schedule(await planner.create(), WallTime("2026-10-25T02:30:00", "Europe/Paris"))
    later = await planner.schedule(post, WallTime("2026-10-25T02:30:00", "Europe/Paris", "second"))
    assert time_of(later).instant - time_of(post).instant == HOUR


async def test_a_post_that_has_moved_on_is_not_cancelled_by_who_saw_it_before(planner: Planner) -> None:
    post = await planner.create(leaves=HOUR)
    await planner.edit(post, title="autumn")
    with pytest.raises(RevisionConflict):
        await planner.cancel(post, revision=1)
    assert (await planner.cancel(post, revision=2)).state is PostState.CANCELLED


async def test_an_edit_counts_the_revision_and_keeps_what_it_does_not_name(planner: Planner, staged: Staged) -> None:
    post = await planner.create(leaves=HOUR, channels=2)
    titled = await planner.edit(post, title="new")
    assert (titled.title, titled.revision, titled.state) == ("new", 2, PostState.SCHEDULED)
    assert titled.variants == post.variants
    rewritten = await planner.edit(post, variants=(due_variant("other words"),), revision=2)
    assert (rewritten.title, rewritten.revision, len(rewritten.variants)) == ("new", 3, 1)
    assert time_of(rewritten).instant == time_of(post).instant
    assert [one.revision for one in await staged(PostEdited)] == [2, 3]


async def test_an_edited_post_leaves_with_its_new_words(
    database: Database, planner: Planner, staged: Staged, clock: FakeClock
) -> None:
    post = await planner.create(leaves=HOUR)
    await planner.edit(post, variants=(due_variant("new words"),))
    await dispatch_due(database, now=clock.now() + HOUR)
    (due,) = await staged(PostDue)
    assert (due.revision, due.variants[0].segments[0].text) == (2, "new words")


async def test_an_edit_of_a_revision_that_is_gone_is_refused(planner: Planner) -> None:
    post = await planner.create()
    await planner.edit(post, title="one", revision=1)
    with pytest.raises(RevisionConflict, match="revision 2") as caught:
        await planner.edit(post, title="two", revision=1)
    assert caught.value.reason == "REVISION_CONFLICT"


async def test_of_two_edits_at_once_on_one_revision_one_is_refused(planner: Planner) -> None:
    post = await planner.create()
    results = await asyncio.gather(
        *[planner.edit(post, title=str(number), revision=1) for number in range(4)], return_exceptions=True
    )
    assert sorted(type(one).__name__ for one in results) == ["Post", *["RevisionConflict"] * 3]


async def test_a_repeated_edit_changes_nothing(planner: Planner) -> None:
    post = await planner.create()
    await planner.edit(post, title="one", request_id="e1", revision=1)
    assert (await planner.edit(post, title="one", request_id="e1", revision=1)).revision == 2
    with pytest.raises(RequestIdReused):
        await planner.edit(await planner.create(), title="one", request_id="e1")


async def test_editing_an_approved_post_returns_it_to_review(database: Database, planner: Planner) -> None:
    post = await planner.create()
    await set_state(database, post, PostState.APPROVED)
    assert (await planner.edit(post, title="new")).state is PostState.IN_REVIEW


async def test_what_has_left_cannot_be_edited_or_moved(database: Database, planner: Planner, clock: FakeClock) -> None:
    post = await planner.create(leaves=HOUR)
    await dispatch_due(database, now=clock.now() + HOUR)
    for act in (planner.edit, planner.schedule):
        with pytest.raises(PostStateConflict) as caught:
            await act(post)
        assert caught.value.reason == "POST_STATE_CONFLICT"


async def test_scheduling_sets_and_moves_the_time(planner: Planner, staged: Staged) -> None:
    post = await planner.create()
    planned = await planner.schedule(post)
    assert (time_of(planned).local_time, time_of(planned).time_zone) == ("2026-07-01T09:30:00", "Europe/Paris")
    assert time_of(planned).instant.isoformat() == "2026-07-01T07:30:00+00:00"
    moved = await planner.schedule(post, WallTime("2026-07-01T09:30:00", "Asia/Tokyo"))
    assert time_of(moved).instant.isoformat() == "2026-07-01T00:30:00+00:00"
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
    database: Database, planner: Planner, workspace_id: UUID, wall_time: WallTime, error: type[Exception]
) -> None:
    post = await planner.create(leaves=HOUR)
    with pytest.raises(error):
        await planner.schedule(post, wall_time)
    assert await planner.get(post) == post


async def test_a_moved_post_leaves_at_its_new_time_only(database: Database, planner: Planner, clock: FakeClock) -> None:
    post = await planner.create(leaves=HOUR)
    later = (clock.now() + HOUR * 3).replace(tzinfo=None).isoformat()
    await planner.schedule(post, WallTime(later, "UTC"))
    assert await dispatch_due(database, now=clock.now() + HOUR) == 0
    assert await dispatch_due(database, now=clock.now() + HOUR * 3) == 1


@pytest.mark.parametrize("state", [PostState.DRAFT, PostState.IN_REVIEW, PostState.APPROVED])
async def test_what_has_not_left_is_cancelled_at_once(
    database: Database, planner: Planner, staged: Staged, state: PostState
) -> None:
    post = await planner.create()
    await set_state(database, post, state)
    assert (await planner.cancel(post)).state is PostState.CANCELLED
    assert [one.state for one in await staged(PostCancelled)] == [POST_STATE_CANCELLED]


async def test_a_dispatched_post_stays_so_until_its_deliveries_tell(
    database: Database, planner: Planner, staged: Staged, clock: FakeClock
) -> None:
    post = await planner.create(leaves=HOUR)
    await dispatch_due(database, now=clock.now() + HOUR)
    cancelled = await planner.cancel(post)
    assert (cancelled.state, cancelled.cancel_time) == (PostState.DISPATCHED, clock.now())
    await planner.cancel(post)
    assert [(one.revision, one.state) for one in await staged(PostCancelled)] == [(1, POST_STATE_DISPATCHED)]


@pytest.mark.parametrize("state", [PostState.PUBLISHED, PostState.FAILED, PostState.CANCELLED, PostState.MISSED])
async def test_what_is_over_cannot_be_cancelled(database: Database, planner: Planner, state: PostState) -> None:
    post = await planner.create()
    await set_state(database, post, state)
    with pytest.raises(PostStateConflict):
        await planner.cancel(post)
