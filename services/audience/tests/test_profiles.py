"""Profiles are merged by external id, once, also by concurrent requests."""

from __future__ import annotations

import asyncio
import json
import random
from datetime import timedelta
from uuid import UUID

import pytest
from google.protobuf.message import Message
from regie.audience.events.v1.audience_events_pb2 import ImportedProfile, ProfilesImported, ProfileUpdated
from regie.ids.v1.prefixes import PROFILE
from regie_audience.attributes import MAX_SIZE, Attributes, InvalidProfile, ProfileTooLarge, size_of
from regie_audience.profiles.changes import MAX_ANSWER, Change, change_profiles
from regie_audience.profiles.queries import bytes_of, list_profiles
from regie_audience.testing import CreateSegment, NewEvents, Upsert
from regie_chassis.boundary.ids import new_id, show_id
from regie_chassis.data.database import Database
from regie_chassis.data.paging import PAGE_BYTES
from regie_local.testing.clock import FakeClock
from sqlalchemy import text


def _profiles_of(event: Message) -> list[ProfileUpdated | ImportedProfile]:
    if isinstance(event, ProfilesImported):
        return list(event.profiles)
    return [event] if isinstance(event, ProfileUpdated) else []


async def test_a_new_profile_is_created_and_said(upsert: Upsert, new_events: NewEvents, clock: FakeClock) -> None:
    (made,) = await upsert({"u1": {"city": "Lyon", "age": 31.0, "gone": None}})

    assert made.attributes == {"city": "Lyon", "age": 31.0}
    assert (made.create_time, made.update_time) == (clock.now(), clock.now())
    shown = show_id(PROFILE, made.id)
    assert await new_events() == [
        ProfileUpdated(profile_id=shown, external_id="u1", changed_attributes=["age", "city"], created=True)
    ]


async def test_a_merge_sets_removes_and_keeps(upsert: Upsert, new_events: NewEvents, clock: FakeClock) -> None:
    (made,) = await upsert({"u1": {"city": "Lyon", "age": 31.0, "tags": ["a"]}})
    await new_events()
    await clock.advance(timedelta(hours=1))

    (merged,) = await upsert({"u1": {"age": 32.0, "city": None, "new": True}})

    assert merged.id == made.id
    assert merged.attributes == {"age": 32.0, "tags": ["a"], "new": True}
    assert merged.update_time == clock.now() > merged.create_time
    (event,) = await new_events()
    assert (list(event.changed_attributes), event.created) == (["age", "city", "new"], False)


async def test_a_merge_that_changes_nothing_says_nothing(
    upsert: Upsert, new_events: NewEvents, clock: FakeClock, database: Database
) -> None:
    (made,) = await upsert({"u1": {"n": 1.0, "tags": ["a", "b"]}})
    await new_events()
    await clock.advance(timedelta(hours=1))

    (again,) = await upsert({"u1": {"n": 1.0, "tags": ["a", "b"], "never": None}})

    assert again == made
    assert await new_events() == []


async def test_true_and_one_are_not_the_same(upsert: Upsert, new_events: NewEvents) -> None:
    await upsert({"u1": {"flag": 1.0}})
    await new_events()

    await upsert({"u1": {"flag": True}})

    (event,) = await new_events()
    assert list(event.changed_attributes) == ["flag"]


async def test_many_profiles_of_one_call_are_told_of_together_in_events_of_bounded_size(
    upsert: Upsert, new_events: NewEvents
) -> None:
    made = await upsert({f"u{n}": {"n": 1.0} for n in range(500)})
    (event,) = await new_events()
    assert [one.profile_id for one in event.profiles] == [show_id(PROFILE, one.id) for one in made]
    assert event.profile_id == event.profiles[0].profile_id

    names = [f"u{n}" for n in range(500)]
    await upsert({name: {f"{'a' * 60}{n}": True for n in range(20)} for name in names})

    events = await new_events()
    assert len(events) > 1
    assert all(event.ByteSize() < 300 * 1024 for event in events)
    assert [one.external_id for event in events for one in event.profiles] == names
    await upsert({name: {"n": 2.0} for name in names[:20]})
    assert [type(event) for event in await new_events()] == [ProfileUpdated] * 20


async def test_profiles_come_back_in_the_order_of_the_request(upsert: Upsert) -> None:
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
        (" ", {}, "profiles[0].external_id"),
        ("u", {"regie.handle": "me"}, "profiles[0].attributes.regie.handle"),
        ("u", {"a": 10**400}, "profiles[0].attributes.a"),
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
    upsert: Upsert, database: Database, external_id: str, given: dict[str, object], field: str
) -> None:
    with pytest.raises(InvalidProfile) as refused:
        await upsert({external_id: given, "right": {}})

    assert refused.value.field == field
    async with database.reading() as session:
        assert (await session.execute(text("SELECT count(*) FROM profile"))).scalar_one() == 0


async def test_a_profile_does_not_grow_past_its_limit_in_two_steps(upsert: Upsert) -> None:
    await upsert({"u": {f"a{n}": 1.0 for n in range(150)}})

    with pytest.raises(InvalidProfile):
        await upsert({"u": {f"b{n}": 1.0 for n in range(51)}})
    await upsert({"u": {f"b{n}": 1.0 for n in range(51)} | {"a0": None}})


async def test_upserts_of_the_same_people_at_once_neither_deadlock_nor_lose(
    upsert: Upsert, new_events: NewEvents, create: CreateSegment, database: Database
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
    profiles = [one for event in await new_events() for one in _profiles_of(event)]
    assert sum(one.created for one in profiles) == len(expected)


async def test_changes_that_count_lose_no_step_when_they_come_at_once(
    database: Database, workspace_id: UUID, clock: FakeClock
) -> None:
    def one_more(old: Attributes) -> Attributes:
        count = old.get("n", 0.0)
        assert isinstance(count, float)
        return {**old, "n": count + 1}

    async def step() -> None:
        async with database.transaction() as session:
            changes = [Change(new_id(), external_id, one_more) for external_id in ("b", "a")]
            await change_profiles(session, workspace_id=workspace_id, changes=changes, now=clock.now())

    await asyncio.gather(*(step() for _ in range(20)))

    async with database.reading() as session:
        page = await list_profiles(session, workspace_id=workspace_id, page_size=10, page_token="")
    assert [one.attributes for one in page.items] == [{"n": 20}, {"n": 20}]


async def test_pages_show_every_profile_once_the_newest_first(
    upsert: Upsert, database: Database, workspace_id: UUID
) -> None:
    for n in range(7):
        await upsert({f"u{n}": {}})
    await upsert({"other": {}}, workspace=new_id())
    seen: list[str] = []
    token = ""
    while True:
        async with database.reading() as session:
            page = await list_profiles(session, workspace_id=workspace_id, page_size=3, page_token=token)
        seen += [one.external_id for one in page.items]
        token = page.next_page_token
        if not token:
            break

    assert seen == [f"u{n}" for n in range(6, -1, -1)]


def _large(characters: int) -> dict[str, object]:
    return {f"t{n}": "x" * min(1_000, characters - n * 1_000) for n in range(-(-characters // 1_000))}


async def test_a_profile_that_would_be_too_large_is_refused_before_anything_is_kept(
    upsert: Upsert, database: Database
) -> None:
    await upsert({"u": _large(60_000)})

    with pytest.raises(ProfileTooLarge) as refused:
        await upsert({"v": {}, "u": {f"more{n}": "é" * 1_000 for n in range(3)}})

    assert (refused.value.http_status, refused.value.field) == (422, "profiles[1].attributes")
    async with database.reading() as session:
        assert (await session.execute(text("SELECT count(*) FROM profile"))).scalar_one() == 1


async def test_a_profile_that_is_too_large_already_can_be_read_changed_and_shrunk_but_not_grow(
    upsert: Upsert, database: Database
) -> None:
    (made,) = await upsert({"u": {"city": "Lyon"}})
    async with database.transaction() as session:
        old = json.dumps(_large(90_000))
        values = {"old": old, "id": made.id}
        await session.execute(text("UPDATE profile SET attributes = CAST(:old AS jsonb) WHERE id = :id"), values)

    (shrunk,) = await upsert({"u": {"t1": None, "t2": "y" * 1_000}})

    assert size_of(shrunk.attributes) > MAX_SIZE
    with pytest.raises(ProfileTooLarge):
        await upsert({"u": {"more": 1.0}})


async def test_profiles_that_make_no_answer_together_are_refused_before_anything_is_changed(
    upsert: Upsert, new_events: NewEvents
) -> None:
    count = MAX_ANSWER // 60_000 + 2
    names = [f"u{n}" for n in range(count)]
    for begin in range(0, count, 50):
        await upsert({name: _large(60_000) for name in names[begin : begin + 50]})
    await new_events()

    with pytest.raises(ProfileTooLarge):
        await upsert({name: {"a": 1.0} for name in names})

    assert await new_events() == []
    await upsert({name: {"a": 1.0} for name in names[:50]})


async def test_texts_and_ids_are_kept_in_one_form(upsert: Upsert) -> None:
    (made,) = await upsert({"Andre\u0301 ": {"city": " Orle\u0301ans\n", "tags": [" a", "e\u0301"]}})

    assert made.external_id == "Andr\u00e9"
    assert made.attributes == {"city": "Orl\u00e9ans", "tags": ["a", "\u00e9"]}
    (again,) = await upsert({" Andr\u00e9": {"n": 1.0}})
    assert again.id == made.id
    (other,) = await upsert({"andr\u00e9": {}})
    assert other.id != made.id
    with pytest.raises(InvalidProfile):
        await upsert({"a": {}, " a": {}})


async def test_a_number_is_the_same_number_after_it_was_read_again(
    upsert: Upsert, create: CreateSegment, new_events: NewEvents
) -> None:
    big = 1.2345678901234567e20
    rule = {"comparison": {"attribute": "n", "operator": "eq", "value": big}}
    await upsert({"u": {"n": big}})
    assert (await create("big", rule)).member_count == 1
    await new_events()

    await upsert({"u": {"n": big, "other": 1.0}})
    await upsert({"u": {"n": int(big)}})

    assert [list(event.changed_attributes) for event in await new_events()] == [["other"]]


async def test_large_profiles_are_listed_in_pages_that_an_answer_carries(
    upsert: Upsert, database: Database, workspace_id: UUID
) -> None:
    large = {f"n{index}": "x" * 1000 for index in range(60)}
    await upsert({f"u{number}": large for number in range(90)})
    seen: list[str] = []
    token, pages = "", 0
    while token or not pages:
        async with database.reading() as session:
            page = await list_profiles(session, workspace_id=workspace_id, page_size=200, page_token=token)
        assert sum(map(bytes_of, page.items)) <= PAGE_BYTES
        seen += [profile.external_id for profile in page.items]
        token, pages = page.next_page_token, pages + 1
    assert sorted(seen) == sorted(f"u{number}" for number in range(90))
    assert pages > 1
