"""The life of ended posts."""

from __future__ import annotations

from datetime import timedelta

import pytest
from pydantic import ValidationError
from regie_chassis.data.database import Database
from regie_chassis.process.clock import SystemClock
from regie_local.testing.clock import FakeClock
from regie_scheduler import idempotency
from regie_scheduler.posts.post import Post
from regie_scheduler.posts.queries import PostNotFound
from regie_scheduler.posts.retention import purge_ended_posts
from regie_scheduler.posts.states import PostState
from regie_scheduler.settings import SchedulerSettings
from regie_scheduler.testing import Planner
from sqlalchemy import text

LIFE = timedelta(days=60)
MINUTE = timedelta(minutes=1)


async def set_state(database: Database, post: Post, state: PostState) -> None:
    async with database.transaction() as session:
        await session.execute(text("UPDATE post SET state = :state WHERE id = :id"), {"state": state, "id": post.id})


@pytest.fixture
async def now_clock(clock: FakeClock) -> FakeClock:
    """A clock that shows the time at which ids are made."""
    await clock.advance(SystemClock().now() - clock.now())
    return clock


async def test_an_ended_post_goes_with_all_its_rows_once_its_life_is_over(
    database: Database, now_clock: FakeClock, planner: Planner
) -> None:
    ended, draft, scheduled = await planner.create(), await planner.create(), await planner.create(leaves=LIFE * 2)
    await planner.cancel(ended)
    async with database.transaction() as session:
        assert not await purge_ended_posts(session, now=now_clock.now() + LIFE, life=LIFE)
    assert await planner.get(ended)
    async with database.transaction() as session:
        assert not await purge_ended_posts(session, now=now_clock.now() + LIFE + MINUTE, life=LIFE)
    with pytest.raises(PostNotFound):
        await planner.get(ended)
    assert await planner.get(draft) == draft
    assert await planner.get(scheduled) == scheduled
    async with database.reading() as session:
        for table in ("variant", "post_change"):
            rows = await session.execute(text(f"SELECT DISTINCT post_id FROM {table}"))
            assert set(rows.scalars()) == {draft.id, scheduled.id}


@pytest.mark.parametrize("state", sorted(PostState))
async def test_only_an_ended_post_is_ever_purged(
    database: Database, now_clock: FakeClock, planner: Planner, state: PostState
) -> None:
    post = await planner.create(leaves=MINUTE)
    await set_state(database, post, state)
    async with database.transaction() as session:
        await purge_ended_posts(session, now=now_clock.now() + LIFE * 10, life=LIFE)
        kept = (await session.execute(text("SELECT count(*) FROM post"))).scalar_one()
    at_work = {
        PostState.DRAFT,
        PostState.IN_REVIEW,
        PostState.APPROVED,
        PostState.SCHEDULED,
        PostState.DISPATCHED,
    }
    assert kept == (1 if state in at_work else 0)


async def test_a_purge_takes_a_bounded_batch_and_says_that_there_is_more(
    database: Database, now_clock: FakeClock, planner: Planner
) -> None:
    for _ in range(3):
        await planner.cancel(await planner.create())
    now, more = now_clock.now() + LIFE + MINUTE, []
    for _ in range(2):
        async with database.transaction() as session:
            more.append(await purge_ended_posts(session, now=now, life=LIFE, batch=2))
    assert more == [True, False]


async def test_old_requests_go_in_bounded_batches(database: Database, clock: FakeClock, planner: Planner) -> None:
    for number in range(3):
        await planner.create(request_id=f"r{number}")
    now, more = clock.now() + LIFE + MINUTE, []
    for _ in range(2):
        async with database.transaction() as session:
            more.append(await idempotency.purge(session, now=now, life=LIFE, batch=2))
    assert more == [True, False]


@pytest.mark.parametrize(("name", "days"), [("post_life_days", 59), ("post_life_days", -1), ("request_life_days", 30)])
def test_a_life_that_a_restore_could_outlive_is_refused(name: str, days: int) -> None:
    with pytest.raises(ValidationError):
        SchedulerSettings.model_validate({"database_url": "postgresql+asyncpg://x/x", name: days})
