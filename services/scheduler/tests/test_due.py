"""The due loop on a real PostgreSQL."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from uuid import UUID

import pytest
from google.protobuf.duration_pb2 import Duration
from regie.gateway.events.v1.gateway_events_pb2 import WorkspaceUpdated
from regie.ids.v1.prefixes import POST
from regie.scheduler.events.v1.scheduler_events_pb2 import PostDue, PostMissed
from regie_chassis.boundary.ids import new_id, show_id
from regie_chassis.data.database import Database
from regie_chassis.events.messaging import Event
from regie_chassis.process.clock import SystemClock
from regie_chassis.process.runtime import Loop
from regie_local.testing.clock import FakeClock
from regie_local.testing.service_fixtures import Staged
from regie_local.testing.waiting import until
from regie_scheduler.policies.workspaces import MISSED_AFTER, on_workspace_updated
from regie_scheduler.posts import planning
from regie_scheduler.posts.due import DueLoop, dispatch_due
from regie_scheduler.posts.planning import Command
from regie_scheduler.posts.post import Post
from regie_scheduler.posts.states import PostState
from regie_scheduler.posts.wakeup import DueWakeup, Listener, notify_replicas
from regie_scheduler.testing import Planner, due_variant, time_of
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

SECOND = timedelta(seconds=1)
HOUR = timedelta(hours=1)


@asynccontextmanager
async def running(stopping: asyncio.Event, *loops: Loop) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(loop.run(stopping)) for loop in loops]
    try:
        yield
    finally:
        stopping.set()
        async with asyncio.timeout(10):
            await asyncio.gather(*tasks)


async def state_of(database: Database, post: Post) -> PostState:
    async with database.reading() as session:
        rows = await session.execute(text("SELECT state FROM post WHERE id = :id"), {"id": post.id})
        return PostState(rows.scalar_one())


async def test_a_due_post_leaves_with_all_that_is_needed_to_publish_it(
    database: Database, clock: FakeClock, planner: Planner, staged: Staged
) -> None:
    variants = [due_variant("first"), due_variant("second")]
    post = await planner.create(leaves=SECOND, variants=variants)
    await clock.advance(SECOND)
    assert await dispatch_due(database, now=clock.now()) == 1
    (due,) = await staged(PostDue)
    assert due.post_id == show_id(POST, post.id)
    assert due.revision == 1
    assert due.publish_time.ToDatetime(clock.now().tzinfo) == time_of(post).instant
    assert due.miss_time.ToDatetime(clock.now().tzinfo) == time_of(post).instant + MISSED_AFTER
    assert [(one.channel_id, one.segments[0].text) for one in due.variants] == [
        (one.channel_id, one.segments[0].text) for one in variants
    ]
    assert await state_of(database, post) is PostState.DISPATCHED


async def test_a_post_is_not_due_a_moment_before_its_time(
    database: Database, clock: FakeClock, planner: Planner
) -> None:
    await planner.create(leaves=SECOND)
    assert await dispatch_due(database, now=clock.now() + SECOND - timedelta(microseconds=1)) == 0


async def test_drafts_never_leave(database: Database, clock: FakeClock, planner: Planner) -> None:
    await planner.create()
    assert await dispatch_due(database, now=clock.now() + HOUR) == 0


async def test_the_earliest_posts_of_a_backlog_leave_first(
    database: Database, clock: FakeClock, planner: Planner, staged: Staged
) -> None:
    posts = [await planner.create(leaves=SECOND * late) for late in (3, 1, 2)]
    await clock.advance(SECOND * 5)
    assert await dispatch_due(database, now=clock.now(), limit=2) == 2
    assert [due.post_id for due in await staged(PostDue)] == [show_id(POST, posts[1].id), show_id(POST, posts[2].id)]
    assert await dispatch_due(database, now=clock.now(), limit=2) == 1
    assert await dispatch_due(database, now=clock.now(), limit=2) == 0


async def test_the_backlog_of_one_workspace_lets_another_ones_posts_pass(
    database: Database, planner: Planner, clock: FakeClock, staged: Staged, stopping: asyncio.Event
) -> None:
    for _ in range(60):
        await planner.create(leaves=SECOND)
    neighbour = new_id()
    passing = [show_id(POST, (await planner.create(leaves=SECOND * 2, workspace=neighbour)).id) for _ in range(3)]
    await clock.advance(SECOND * 2)
    async with running(stopping, DueLoop(database, DueWakeup(), clock, batch=10)):

        async def all_left() -> bool:
            return len(await staged(PostDue)) == 63

        await until(all_left)
    order = [due.post_id for due in await staged(PostDue)]
    assert Counter(order).most_common(1)[0][1] == 1
    assert set(passing) < set(order[:20])  # the first claim is of the earliest, the second in turns


async def test_a_claim_in_turns_goes_on_with_the_earliest(
    database: Database, clock: FakeClock, planner: Planner, staged: Staged
) -> None:
    posts = [show_id(POST, (await planner.create(leaves=SECOND * late)).id) for late in range(1, 51)]
    await clock.advance(SECOND * 60)
    await dispatch_due(database, now=clock.now(), limit=30, in_turns=True)
    await dispatch_due(database, now=clock.now(), limit=30, in_turns=True)
    assert [due.post_id for due in await staged(PostDue)] == posts


async def test_a_post_that_is_too_late_is_missed_and_says_why(
    database: Database, clock: FakeClock, planner: Planner, staged: Staged
) -> None:
    late = await planner.create(leaves=SECOND)
    just = await planner.create(leaves=SECOND * 2)
    now = clock.now() + SECOND * 2 + MISSED_AFTER
    assert await dispatch_due(database, now=now) == 2
    (missed,) = await staged(PostMissed)
    assert (missed.post_id, missed.revision) == (show_id(POST, late.id), late.revision)
    assert "601 s late" in missed.reason
    assert (await state_of(database, late), await state_of(database, just)) == (
        PostState.MISSED,
        PostState.DISPATCHED,
    )
    assert [due.post_id for due in await staged(PostDue)] == [show_id(POST, just.id)]


async def test_a_workspace_decides_how_late_its_posts_may_be(
    database: Database, clock: FakeClock, planner: Planner, staged: Staged, workspace_id: UUID
) -> None:
    await planner.create(leaves=SECOND)
    updated = WorkspaceUpdated(missed_after=Duration(seconds=5))
    older = WorkspaceUpdated(missed_after=Duration(seconds=3600))
    for message, time in ((updated, clock.now() + SECOND), (older, clock.now())):
        async with database.transaction() as session:
            await on_workspace_updated(session, [Event(new_id(), workspace_id, time, message)])
    assert await dispatch_due(database, now=clock.now() + SECOND * 7) == 1
    assert len(await staged(PostMissed)) == 1


async def test_a_cancelled_post_is_never_claimed(
    database: Database, clock: FakeClock, planner: Planner, workspace_id: UUID
) -> None:
    post = await planner.create(leaves=SECOND)
    async with database.transaction() as session:
        await planning.cancel_post(session, Command(workspace_id, post.id, "", clock.now()))
    assert await dispatch_due(database, now=clock.now() + SECOND * 2) == 0


async def test_a_post_that_is_being_cancelled_is_passed_over_and_its_neighbour_leaves(
    database: Database, clock: FakeClock, planner: Planner, workspace_id: UUID, staged: Staged
) -> None:
    held, free = await planner.create(leaves=SECOND), await planner.create(leaves=SECOND)
    async with database.transaction() as session:
        await planning.cancel_post(session, Command(workspace_id, held.id, "", clock.now()))
        assert await dispatch_due(database, now=clock.now() + SECOND) == 1
    assert [due.post_id for due in await staged(PostDue)] == [show_id(POST, free.id)]
    assert await state_of(database, held) is PostState.CANCELLED


async def test_two_loops_at_once_hand_over_each_of_two_hundred_posts_once(
    database: Database, planner: Planner, clock: FakeClock, staged: Staged, stopping: asyncio.Event
) -> None:
    posts = {show_id(POST, (await planner.create(leaves=SECOND)).id) for _ in range(200)}
    await clock.advance(SECOND * 2)
    loops = [DueLoop(database, DueWakeup(), clock, batch=7) for _ in range(2)]
    async with running(stopping, *loops):

        async def all_left() -> bool:
            await clock.advance(timedelta(milliseconds=20))
            return len(await staged(PostDue)) >= 200

        await until(all_left)
    assert Counter(due.post_id for due in await staged(PostDue)) == Counter(posts)


async def test_the_loop_sleeps_until_the_next_post_and_not_a_moment_longer(
    database: Database, planner: Planner, clock: FakeClock, staged: Staged, stopping: asyncio.Event, wakeup: DueWakeup
) -> None:
    wakeup.listening = True
    await planner.create(leaves=SECOND * 30)
    async with running(stopping, DueLoop(database, wakeup, clock)):
        await until(_asleep(wakeup))
        await clock.advance(SECOND * 29)
        assert await staged(PostDue) == []
        await clock.advance(SECOND)
        await until(lambda: staged(PostDue))


async def test_an_earlier_post_scheduled_in_this_process_wakes_the_loop(
    database: Database, planner: Planner, clock: FakeClock, staged: Staged, stopping: asyncio.Event, wakeup: DueWakeup
) -> None:
    wakeup.listening = True
    async with running(stopping, DueLoop(database, wakeup, clock)):
        await until(_asleep(wakeup))
        await planner.create(leaves=timedelta(0))
        await until(lambda: staged(PostDue))


async def test_a_notification_wakes_the_loop_of_another_replica(
    database: Database, planner: Planner, clock: FakeClock, staged: Staged, stopping: asyncio.Event
) -> None:
    elsewhere = DueWakeup()
    async with running(stopping, Listener(database, elsewhere, clock), DueLoop(database, elsewhere, clock)):
        await until(_listening(elsewhere))
        await until(_asleep(elsewhere))
        await planner.create(leaves=timedelta(0))
        await until(lambda: staged(PostDue))


async def test_a_far_post_sends_no_notification(database: Database, clock: FakeClock) -> None:
    wakeup = DueWakeup()
    async with database.transaction() as session:
        await notify_replicas(session, wakeup, clock.now() + HOUR, now=clock.now())
    assert not wakeup.is_set()


async def test_a_loop_whose_listener_was_cut_off_looks_every_second_and_listens_again(
    database: Database, planner: Planner, staged: Staged, stopping: asyncio.Event
) -> None:
    wakeup, real = DueWakeup(), SystemClock()
    async with running(stopping, Listener(database, wakeup, real), DueLoop(database, wakeup, real)):
        await until(_listening(wakeup))
        await _terminate_others(database)
        await until(lambda: _in_spite_of_the_cut(planner.create(leaves=timedelta(0))))
        await until(lambda: _in_spite_of_the_cut(staged(PostMissed)))
        await until(_listening(wakeup))


async def test_without_a_listener_the_loop_polls(
    database: Database, planner: Planner, clock: FakeClock, staged: Staged, stopping: asyncio.Event, wakeup: DueWakeup
) -> None:
    async with running(stopping, DueLoop(database, wakeup, clock)):
        await until(_asleep(wakeup))
        async with database.transaction() as session:
            post = await planner.create()
            await session.execute(
                text("UPDATE post SET state = 'scheduled', publish_time = :now WHERE id = :id"),
                {"now": clock.now(), "id": post.id},
            )
        await clock.advance(SECOND)
        await until(lambda: staged(PostDue))


@pytest.mark.parametrize("limit", [1, 500])
async def test_a_claim_that_fails_leaves_its_posts_where_they_were(
    database: Database, clock: FakeClock, planner: Planner, staged: Staged, limit: int
) -> None:
    post = await planner.create(leaves=SECOND)
    async with database.transaction() as session:
        await session.execute(text("ALTER TABLE outbox ADD CONSTRAINT refuses CHECK (type !~ 'PostDue') NOT VALID"))
    with pytest.raises(Exception, match="refuses"):
        await dispatch_due(database, now=clock.now() + SECOND, limit=limit)
    assert await state_of(database, post) is PostState.SCHEDULED
    assert await staged(PostDue) == []


def _asleep(wakeup: DueWakeup) -> Callable[[], Awaitable[bool]]:
    async def look() -> bool:
        return wakeup._wake_time is not None

    return look


def _listening(wakeup: DueWakeup) -> Callable[[], Awaitable[bool]]:
    async def look() -> bool:
        return wakeup.listening

    return look


async def _in_spite_of_the_cut(call: Awaitable[object]) -> bool:
    try:
        return bool(await call)
    except DBAPIError:  # this test's own pool was cut off as well
        return False


async def _terminate_others(database: Database) -> None:
    async with database.reading() as session:
        await session.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        )


async def test_a_post_that_cannot_be_handed_on_is_missed_and_its_neighbours_leave(
    database: Database, clock: FakeClock, planner: Planner, staged: Staged
) -> None:
    posts = [await planner.create(leaves=SECOND) for _ in range(3)]
    async with database.transaction() as session:
        await session.execute(text("UPDATE variant SET content = '\\xff' WHERE post_id = :id"), {"id": posts[1].id})
    await clock.advance(SECOND)
    assert await dispatch_due(database, now=clock.now()) == 3
    states = [await state_of(database, post) for post in posts]
    assert states == [PostState.DISPATCHED, PostState.MISSED, PostState.DISPATCHED]
    (missed,) = await staged(PostMissed)
    assert missed.reason == "it cannot be handed on: DecodeError"
