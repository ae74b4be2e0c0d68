"""The life of memberships that ended."""

from __future__ import annotations

import json
from datetime import timedelta
from uuid import UUID

from regie_audience.app import build
from regie_audience.memberships.retention import purge_left_memberships
from regie_audience.settings import AudienceSettings
from regie_audience.testing import CreateSegment, Upsert
from regie_chassis.boundary.identity import new_key
from regie_chassis.data.database import Database
from regie_local.testing.clock import FakeClock
from regie_local.testing.memory_broker import MemoryBroker
from sqlalchemy import text

LIFE = timedelta(days=400)
MINUTE = timedelta(minutes=1)
ADULT = {"comparison": {"attribute": "age", "operator": "ge", "value": 18.0}}


async def _members(database: Database) -> set[UUID]:
    async with database.reading() as session:
        return set((await session.execute(text("SELECT profile_id FROM membership"))).scalars())


async def _purge(database: Database, clock: FakeClock, *, after: timedelta, batch: int = 10) -> bool:
    async with database.transaction() as session:
        return await purge_left_memberships(session, now=clock.now() + after, life=LIFE, batch=batch)


async def test_a_membership_is_purged_a_life_after_its_end_and_never_before_it(
    database: Database, clock: FakeClock, upsert: Upsert, create: CreateSegment
) -> None:
    await create("adults", ADULT)
    left, stays = await upsert({"left": {"age": 20.0}, "stays": {"age": 20.0}})
    await upsert({"left": {"age": 3.0}})

    await _purge(database, clock, after=LIFE)
    assert await _members(database) == {left.id, stays.id}
    await _purge(database, clock, after=LIFE + MINUTE)
    assert await _members(database) == {stays.id}


async def test_a_purged_profile_enters_again_like_a_new_one(
    database: Database, clock: FakeClock, upsert: Upsert, create: CreateSegment
) -> None:
    await create("adults", ADULT)
    (profile,) = await upsert({"u": {"age": 20.0}})
    await upsert({"u": {"age": 3.0}})
    await _purge(database, clock, after=LIFE + MINUTE)
    await upsert({"u": {"age": 20.0}})
    assert await _members(database) == {profile.id}
    async with database.reading() as session:
        assert (await session.execute(text("SELECT member_count FROM segment"))).scalar_one() == 1


async def test_memberships_are_purged_in_bounded_batches(
    database: Database, clock: FakeClock, upsert: Upsert, create: CreateSegment
) -> None:
    await create("adults", ADULT)
    await upsert({f"u{n}": {"age": 20.0} for n in range(3)})
    await upsert({f"u{n}": {"age": 3.0} for n in range(3)})
    more = [await _purge(database, clock, after=LIFE + MINUTE, batch=2) for _ in range(2)]
    assert (more, await _members(database)) == ([True, False], set())


async def test_a_life_of_zero_has_no_loop(database: Database, clock: FakeClock, memory_broker: MemoryBroker) -> None:
    def loops(life: int) -> set[str]:
        settings = AudienceSettings.model_validate(
            {
                "database_url": database.url,
                "identity_public_key": json.dumps(new_key().as_dict(private=False)),
                "left_membership_life_days": life,
            }
        )
        return {loop.name for loop in build(settings, clock=clock, broker=memory_broker).app._loops}

    assert loops(400) - loops(0) == {"membership purge"}
