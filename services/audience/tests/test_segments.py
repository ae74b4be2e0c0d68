"""A segment holds exactly those whom its rule matches, and says whoever comes and goes once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from uuid import UUID

import pytest
from google.protobuf.message import Message
from regie.audience.events.v1.audience_events_pb2 import ProfileUpdated, SegmentEntered, SegmentLeft
from regie_audience.announcements import Announcements
from regie_audience.memberships import announce_entries
from regie_audience.profiles import ProfileInput, upsert_profiles
from regie_audience.rules import read
from regie_audience.segments import (
    InvalidSegment,
    RequestIdReused,
    SegmentNameTaken,
    create_segment,
    get_segment,
    list_segment_members,
    list_segments,
    preview_segment,
)
from regie_chassis.database import Database
from regie_chassis.ids import PROFILE, SEGMENT, new_id, show_id
from regie_chassis.testing.clock import FakeClock
from regie_chassis.testing.waiting import until
from sqlalchemy import text

ADULT = {"comparison": {"attribute": "age", "operator": "ge", "value": 18}}
LYON = {"comparison": {"attribute": "city", "operator": "eq", "value": "Lyon"}}


def _moves(events: list[Message]) -> list[Message]:
    return [event for event in events if not isinstance(event, ProfileUpdated)]


async def _announce(database: Database) -> int:
    async with database.transaction() as session:
        return await announce_entries(session)


async def _members(database: Database, workspace_id: UUID, segment_id: UUID) -> set[str]:
    async with database.reading() as session:
        page = await list_segment_members(session, workspace_id=workspace_id, segment_id=segment_id, size=200, token="")
    return {one.external_id for one in page.items}


async def test_a_new_segment_is_filled_with_those_who_match(
    upsert: Callable, create: Callable, database: Database, workspace_id: UUID
) -> None:
    await upsert({"old": {"age": 40.0}, "young": {"age": 4.0}, "unknown": {}})
    await upsert({"stranger": {"age": 40.0}}, workspace=new_id())

    segment = await create("adults", ADULT)

    assert segment.member_count == 1
    assert await _members(database, workspace_id, segment.id) == {"old"}


async def test_who_comes_to_match_enters_and_who_stops_leaves_each_said_once(
    upsert: Callable, create: Callable, said: Callable, database: Database, workspace_id: UUID, clock: FakeClock
) -> None:
    segment = await create("adults", ADULT)
    told = {"segment_id": show_id(SEGMENT, segment.id)}
    (person,) = await upsert({"u": {"age": 17.0}})
    told["profile_id"] = show_id(PROFILE, person.id)
    assert _moves(await said()) == []

    for age, expected in (
        (18.0, SegmentEntered),
        (19.0, None),
        (3.0, SegmentLeft),
        (2.0, None),
        (50.0, SegmentEntered),
    ):
        await clock.advance(timedelta(minutes=1))
        await upsert({"u": {"age": age}})
        assert _moves(await said()) == ([expected(**told)] if expected else [])

    async with database.reading() as session:
        found = await get_segment(session, workspace_id=workspace_id, segment_id=segment.id)
        row = (await session.execute(text("SELECT enter_time, leave_time FROM membership"))).one()
    assert found.member_count == 1
    assert tuple(row) == (clock.now(), None)


async def test_the_count_follows_many_moves_at_once(
    upsert: Callable, create: Callable, database: Database, workspace_id: UUID
) -> None:
    segments = [await create("adults", ADULT), await create("lyon", LYON), await create("not lyon", {"not": LYON})]
    await upsert({f"u{n}": {"age": float(n), "city": "Lyon" if n % 2 else "Nice"} for n in range(40)})
    await upsert({f"u{n}": {"age": 1.0, "city": "Lyon"} for n in range(30)})

    async with database.reading() as session:
        counts = [
            (await get_segment(session, workspace_id=workspace_id, segment_id=one.id)).member_count for one in segments
        ]
    assert counts == [10, 35, 5]


async def test_a_filling_is_said_afterwards_in_bounded_numbers(
    upsert: Callable, create: Callable, said: Callable, database: Database
) -> None:
    for begin in range(0, 1_200, 600):
        await upsert({f"u{n}": {"age": 20.0} for n in range(begin, begin + 600)})
    await said()

    segment = await create("adults", ADULT)

    assert await said() == []
    assert [await _announce(database) for _ in range(3)] == [1_000, 200, 0]
    events = await said()
    assert {event.segment_id for event in events} == {show_id(SEGMENT, segment.id)}
    assert len({event.profile_id for event in events}) == len(events) == 1_200


async def test_announcers_at_once_say_nobody_twice(
    upsert: Callable, create: Callable, said: Callable, database: Database
) -> None:
    await upsert({f"u{n}": {"age": 20.0} for n in range(900)})
    await create("adults", ADULT)
    await create("everybody", {"not": LYON})
    await said()

    await asyncio.gather(*(_announce(database) for _ in range(6)))
    while await _announce(database):
        pass

    events = await said()
    assert len({(event.segment_id, event.profile_id) for event in events}) == len(events) == 1_800


async def test_who_left_before_the_entry_was_said_is_never_spoken_of(
    upsert: Callable, create: Callable, said: Callable, database: Database
) -> None:
    await upsert({"u": {"age": 20.0}, "v": {"age": 20.0}})
    await create("adults", ADULT)
    await upsert({"u": {"age": 2.0}})
    assert _moves(await said()) == []

    await _announce(database)

    (entered,) = await said()
    assert isinstance(entered, SegmentEntered)
    await upsert({"v": {"age": 2.0}, "u": {"age": 21.0}})
    assert [type(event) for event in _moves(await said())] == [SegmentEntered, SegmentLeft]


async def test_the_loop_says_what_a_filling_left(
    upsert: Callable, create: Callable, said: Callable, database: Database, clock: FakeClock, stopping: asyncio.Event
) -> None:
    await upsert({"u": {"age": 20.0}})
    await create("adults", ADULT)
    await said()
    loop = asyncio.create_task(Announcements(database, clock).run(stopping))

    (event,) = await until(said)

    assert isinstance(event, SegmentEntered)
    stopping.set()
    await loop


async def _someone_waits_for_a_lock(database: Database) -> bool:
    async with database.reading() as session:
        rows = await session.execute(text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"))
        return bool(rows.scalar_one())


async def test_a_filling_waits_for_a_change_under_way_and_does_not_miss_it(
    upsert: Callable, create: Callable, database: Database, workspace_id: UUID, clock: FakeClock
) -> None:
    async with database.transaction() as session:
        inputs = [ProfileInput(new_id(), "u", {"age": 20.0})]
        await upsert_profiles(session, workspace_id=workspace_id, inputs=inputs, now=clock.now())
        making = asyncio.create_task(create("adults", ADULT))
        await until(lambda: _someone_waits_for_a_lock(database), timeout=5)

    segment = await making
    assert (segment.member_count, await _members(database, workspace_id, segment.id)) == (1, {"u"})


async def test_a_change_waits_for_a_filling_under_way_and_finds_its_segment(
    upsert: Callable, database: Database, workspace_id: UUID, clock: FakeClock
) -> None:
    async with database.transaction() as session:
        segment = await create_segment(
            session,
            segment_id=new_id(),
            workspace_id=workspace_id,
            request_id="",
            name="adults",
            rule=read(ADULT),
            now=clock.now(),
        )
        changing = asyncio.create_task(upsert({"u": {"age": 20.0}}))
        await until(lambda: _someone_waits_for_a_lock(database), timeout=5)

    await changing
    assert await _members(database, workspace_id, segment.id) == {"u"}


async def test_segments_made_while_profiles_change_miss_and_double_nobody(
    upsert: Callable, create: Callable, said: Callable, database: Database, workspace_id: UUID
) -> None:
    async def change(writer: int) -> None:
        for step in range(8):
            await upsert({f"u{writer}_{n}": {"age": float((n * 7 + step * 5) % 36)} for n in range(25)})

    async def make(number: int) -> None:
        await create(f"adults {number}", ADULT)

    await asyncio.gather(*(change(writer) for writer in range(4)), *(make(number) for number in range(4)))
    while await _announce(database):
        pass

    async with database.reading() as session:
        preview = await preview_segment(session, workspace_id=workspace_id, rule=read(ADULT), size=50)
        page = await list_segments(session, workspace_id=workspace_id, size=50, token="")
        rows = (
            await session.execute(
                text(
                    "SELECT segment_id, count(*) FROM membership JOIN profile ON profile.id = profile_id"
                    " WHERE leave_time IS NULL AND CAST(attributes -> 'age' AS numeric) >= 18 GROUP BY 1"
                )
            )
        ).all()
        wrong = await session.execute(
            text(
                "SELECT count(*) FROM membership JOIN profile ON profile.id = profile_id"
                " WHERE leave_time IS NULL AND CAST(attributes -> 'age' AS numeric) < 18"
            )
        )
    assert preview.count > 0
    assert [one.member_count for one in page.items] == [preview.count] * 4
    assert [row.count for row in rows] == [preview.count] * 4
    assert wrong.scalar_one() == 0
    _each_story_alternates(_moves(await said()), still_in=4 * preview.count)


def _each_story_alternates(moves: list[Message], *, still_in: int) -> None:
    inside: set[tuple[str, str]] = set()
    for event in moves:
        pair = (event.segment_id, event.profile_id)
        if isinstance(event, SegmentEntered):
            assert pair not in inside, "entered twice"
            inside.add(pair)
        else:
            assert pair in inside, "left without having entered"
            inside.remove(pair)
    assert len(inside) == still_in


async def test_a_name_is_taken_once_in_a_workspace(create: Callable) -> None:
    await create("adults", ADULT)

    with pytest.raises(SegmentNameTaken):
        await create("adults", LYON)


async def test_names_taken_at_once_go_to_one(create: Callable) -> None:
    outcomes = await asyncio.gather(*(create("adults", ADULT) for _ in range(5)), return_exceptions=True)

    assert sorted(type(one).__name__ for one in outcomes) == ["Segment", *["SegmentNameTaken"] * 4]


async def test_the_same_request_makes_one_segment(create: Callable, database: Database) -> None:
    first = await create("adults", ADULT, request_id="r1")

    assert await create("adults", ADULT, request_id="r1") == first
    with pytest.raises(RequestIdReused):
        await create("lyon", LYON, request_id="r1")


@pytest.mark.parametrize("name", ["", "  ", "a" * 201, "a\x00b", "a\nb"])
async def test_a_name_of_the_wrong_form_is_refused(create: Callable, name: str) -> None:
    with pytest.raises(InvalidSegment):
        await create(name, ADULT)


async def test_a_preview_stores_nothing(upsert: Callable, database: Database, workspace_id: UUID) -> None:
    await upsert({f"u{n}": {"age": float(n)} for n in range(30)})

    async with database.reading() as session:
        found = await preview_segment(session, workspace_id=workspace_id, rule=read(ADULT), size=5)
        stored = (await session.execute(text("SELECT count(*) FROM membership"))).scalar_one()

    assert (found.count, len(found.sample), stored) == (12, 5, 0)
    assert all(one.attributes["age"] >= 18 for one in found.sample)


async def test_pages_of_members_show_each_once(
    upsert: Callable, create: Callable, database: Database, workspace_id: UUID
) -> None:
    segment = await create("adults", ADULT)
    await upsert({f"u{n}": {"age": 20.0} for n in range(7)})
    seen: list[str] = []
    token = ""
    while True:
        async with database.reading() as session:
            page = await list_segment_members(
                session, workspace_id=workspace_id, segment_id=segment.id, size=3, token=token
            )
        seen += [one.external_id for one in page.items]
        token = page.next_page_token
        if not token:
            break

    assert sorted(seen) == [f"u{n}" for n in range(7)]
