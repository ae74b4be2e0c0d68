"""Profiles are merged by external id, once, whoever else is doing the same."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from datetime import timedelta
from uuid import UUID

import pytest
from regie.audience.events.v1.audience_events_pb2 import ProfileUpdated
from regie_audience.attributes import InvalidProfile
from regie_audience.profiles import Change, bytes_of, change_profiles, list_profiles
from regie_chassis.database import Database
from regie_chassis.ids import PROFILE, new_id, show_id
from regie_chassis.paging import PAGE_BYTES
from regie_chassis.testing.clock import FakeClock
from sqlalchemy import text


async def test_a_new_profile_is_created_and_said(upsert: Callable, said: Callable, clock: FakeClock) -> None:
    (made,) = await upsert({"u1": {"city": "Lyon", "age": 31.0, "gone": None}})

    assert made.attributes == {"city": "Lyon", "age": 31.0}
    assert (made.create_time, made.update_time) == (clock.now(), clock.now())
    shown = show_id(PROFILE, made.id)
    assert await said() == [
        ProfileUpdated(profile_id=shown, external_id="u1", changed_attributes=["age", "city"], created=True)
    ]


async def test_a_merge_sets_removes_and_keeps(upsert: Callable, said: Callable, clock: FakeClock) -> None:
    (made,) = await upsert({"u1": {"city": "Lyon", "age": 31.0, "tags": ["a"]}})
    await said()
    await clock.advance(timedelta(hours=1))

    (merged,) = await upsert({"u1": {"age": 32.0, "city": None, "new": True}})

    assert merged.id == made.id
    assert merged.attributes == {"age": 32.0, "tags": ["a"], "new": True}
    assert merged.update_time == clock.now() > merged.create_time
    (event,) = await said()
    assert (list(event.changed_attributes), event.created) == (["age", "city", "new"], False)


async def test_a_merge_that_changes_nothing_says_nothing(
    upsert: Callable, said: Callable, clock: FakeClock, database: Database
) -> None:
    (made,) = await upsert({"u1": {"n": 1.0, "tags": ["a", "b"]}})
    await said()
    await clock.advance(timedelta(hours=1))

    (again,) = await upsert({"u1": {"n": 1.0, "tags": ["a", "b"], "never": None}})

    assert again == made
    assert await said() == []


async def test_true_and_one_are_not_the_same(upsert: Callable, said: Callable) -> None:
    await upsert({"u1": {"flag": 1.0}})
    await said()

    await upsert({"u1": {"flag": True}})

    (event,) = await said()
    assert list(event.changed_attributes) == ["flag"]


async def test_profiles_come_back_in_the_order_of_the_request(upsert: Callable) -> None:
    names = [f"u{n}" for n in range(50)]
    random.Random(3).shuffle(names)
    await upsert({name: {} for name in names[:20]})

    assert [one.external_id for one in await upsert({name: {"n": 1.0} for name in names})] == names


@pytest.mark.parametrize(
    ("external_id", "given", "field"),
    [
        ("", {}, "profiles[0].external_id"),
        ("a" * 501, {}, "profiles[0].external_id"),
        ("a\nb", {}, "profiles[0].external_id"),
        ("u", {"": 1.0}, "profiles[0].attributes."),
        ("u", {"1a": 1.0}, "profiles[0].attributes.1a"),
        ("u", {"a": float("inf")}, "profiles[0].attributes.a"),
        ("u", {"a": {}}, "profiles[0].attributes.a"),
        ("u", {"a": [1.0]}, "profiles[0].attributes.a"),
        ("u", {"a": ["x"] * 101}, "profiles[0].attributes.a"),
        ("u", {"a": "x" * 1001}, "profiles[0].attributes.a"),
        ("u", {"a": "x\x00"}, "profiles[0].attributes.a"),
        ("u", {f"a{n}": 1.0 for n in range(201)}, "profiles[0].attributes"),
    ],
)
async def test_a_wrong_profile_is_refused_and_nothing_is_kept(
    upsert: Callable, database: Database, external_id: str, given: dict[str, object], field: str
) -> None:
    with pytest.raises(InvalidProfile) as refused:
        await upsert({external_id: given, "right": {}})

    assert refused.value.field == field
    async with database.reading() as session:
        assert (await session.execute(text("SELECT count(*) FROM profile"))).scalar_one() == 0


async def test_a_profile_does_not_grow_past_its_limit_in_two_steps(upsert: Callable) -> None:
    await upsert({"u": {f"a{n}": 1.0 for n in range(150)}})

    with pytest.raises(InvalidProfile):
        await upsert({"u": {f"b{n}": 1.0 for n in range(51)}})
    await upsert({"u": {f"b{n}": 1.0 for n in range(51)} | {"a0": None}})


async def test_upserts_of_the_same_people_at_once_neither_deadlock_nor_lose(
    upsert: Callable, said: Callable, create: Callable, database: Database
) -> None:
    await create("busy", {"comparison": {"attribute": "w0", "operator": "present"}})
    names = [f"u{n}" for n in range(60)]

    async def write(writer: int) -> None:
        chance = random.Random(writer)
        for step in range(4):
            mine = chance.sample(names, 40)
            await upsert({name: {f"w{writer}": float(step), f"w{writer}_{step}": True} for name in mine})

    await asyncio.gather(*(write(writer) for writer in range(6)))

    expected: dict[str, set[str]] = {}
    for writer in range(6):
        chance = random.Random(writer)
        for step in range(4):
            for name in chance.sample(names, 40):
                expected.setdefault(name, set()).update({f"w{writer}", f"w{writer}_{step}"})
    async with database.reading() as session:
        rows = (await session.execute(text("SELECT external_id, attributes FROM profile"))).all()
        count = (await session.execute(text("SELECT member_count FROM segment"))).scalar_one()
    assert {row.external_id: set(row.attributes) for row in rows} == expected
    assert count == sum("w0" in known for known in expected.values())
    assert sum(isinstance(event, ProfileUpdated) and event.created for event in await said()) == len(expected)


async def test_changes_that_count_lose_no_step_when_they_come_at_once(
    database: Database, workspace_id: UUID, clock: FakeClock
) -> None:
    def one_more(old: dict[str, float]) -> dict[str, float]:
        return {**old, "n": old.get("n", 0) + 1}

    async def step() -> None:
        async with database.transaction() as session:
            changes = [Change(new_id(), external_id, one_more) for external_id in ("b", "a")]
            await change_profiles(session, workspace_id=workspace_id, changes=changes, now=clock.now())

    await asyncio.gather(*(step() for _ in range(20)))

    async with database.reading() as session:
        page = await list_profiles(session, workspace_id=workspace_id, size=10, token="")
    assert [one.attributes for one in page.items] == [{"n": 20}, {"n": 20}]


async def test_pages_show_every_profile_once_the_newest_first(
    upsert: Callable, database: Database, workspace_id: UUID
) -> None:
    for n in range(7):
        await upsert({f"u{n}": {}})
    await upsert({"other": {}}, workspace=new_id())
    seen: list[str] = []
    token = ""
    while True:
        async with database.reading() as session:
            page = await list_profiles(session, workspace_id=workspace_id, size=3, token=token)
        seen += [one.external_id for one in page.items]
        token = page.next_page_token
        if not token:
            break

    assert seen == [f"u{n}" for n in range(6, -1, -1)]


async def test_large_profiles_are_listed_in_pages_that_an_answer_carries(
    upsert: Callable, database: Database, workspace_id: UUID
) -> None:
    large = {f"n{index}": "x" * 1000 for index in range(60)}
    await upsert({f"u{number}": large for number in range(90)})
    seen: list[str] = []
    token, pages = "", 0
    while token or not pages:
        async with database.reading() as session:
            page = await list_profiles(session, workspace_id=workspace_id, size=200, token=token)
        assert sum(map(bytes_of, page.items)) <= PAGE_BYTES
        seen += [profile.external_id for profile in page.items]
        token, pages = page.next_page_token, pages + 1
    assert sorted(seen) == sorted(f"u{number}" for number in range(90))
    assert pages > 1
