"""One effect for each request id, on a real PostgreSQL."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from regie.scheduler.events.v1.scheduler_events_pb2 import (
    PostCreated,
)
from regie_chassis.data.database import Database
from regie_local.testing.clock import FakeClock
from regie_local.testing.service_fixtures import Staged
from regie_scheduler import idempotency
from regie_scheduler.idempotency import InvalidRequestId, RequestIdReused
from regie_scheduler.posts.states import PostState
from regie_scheduler.posts.times import TimeInPast
from regie_scheduler.testing import Planner

HOUR = timedelta(hours=1)


async def test_a_repeated_request_gives_the_same_post_even_when_its_time_has_passed(
    planner: Planner, staged: Staged, clock: FakeClock
) -> None:
    leaves = clock.now() + HOUR
    first = await planner.create(leaves=HOUR, request_id="r1")
    await clock.advance(HOUR * 2)
    again = await planner.create(leaves=leaves - clock.now(), request_id="r1")
    assert again == first
    assert len(await staged(PostCreated)) == 1


async def test_the_same_request_sent_twice_at_once_makes_one_post(planner: Planner, staged: Staged) -> None:
    posts = await asyncio.gather(*[planner.create(request_id="r1") for _ in range(5)])
    assert len({post.id for post in posts}) == 1
    assert len(await staged(PostCreated)) == 1


async def test_without_a_request_id_every_call_counts(planner: Planner) -> None:
    assert (await planner.create()).id != (await planner.create()).id


async def test_a_failed_request_can_be_repeated(planner: Planner) -> None:
    with pytest.raises(TimeInPast):
        await planner.create(leaves=-HOUR, request_id="r1")
    assert (await planner.create(leaves=HOUR, request_id="r1")).state is PostState.SCHEDULED


async def test_a_request_id_stands_for_one_call(planner: Planner) -> None:
    post = await planner.create(request_id="r1")
    with pytest.raises(RequestIdReused):
        await planner.cancel(post, request_id="r1")
    with pytest.raises(InvalidRequestId):
        await planner.create(request_id="r" * 999)


async def test_old_requests_are_forgotten(database: Database, planner: Planner, clock: FakeClock) -> None:
    first = await planner.create(request_id="r1")
    life = timedelta(days=60)
    async with database.transaction() as session:
        await idempotency.purge(session, now=clock.now() + life, life=life)
    assert (await planner.create(request_id="r1")).id == first.id
    async with database.transaction() as session:
        await idempotency.purge(session, now=clock.now() + life + HOUR, life=life)
    assert (await planner.create(request_id="r1")).id != first.id
