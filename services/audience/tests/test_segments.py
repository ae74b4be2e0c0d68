"""A segment holds exactly those whom its rule matches, and says whoever comes and goes once."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from regie.audience.events.v1.audience_events_pb2 import (
    ProfilesImported,
    ProfileUpdated,
    SegmentDeleted,
    SegmentEntered,
    SegmentFilled,
    SegmentLeft,
)
from regie.ids.v1.prefixes import PROFILE, SEGMENT
from regie_audience.memberships import changes as memberships
from regie_audience.memberships.states import SegmentState
from regie_audience.memberships.work import SegmentWork
from regie_audience.profiles.changes import ProfileInput, upsert_profiles
from regie_audience.rules.model import InvalidRule, parse_rule
from regie_audience.segments.lifecycle import (
    MAX_SEGMENTS,
    InvalidSegment,
    RequestIdReused,
    SegmentNameTaken,
    TooManySegments,
    create_segment,
    delete_segment,
)
from regie_audience.segments.previews import preview_segment
from regie_audience.segments.queries import Segment, SegmentNotFound, get_segment, list_segment_members, list_segments
from regie_audience.testing import CreateSegment, NewEvents, Upsert
from regie_chassis.boundary.ids import new_id, show_id
from regie_chassis.data.database import Database
from regie_local.testing.clock import FakeClock
from regie_local.testing.waiting import until
from sqlalchemy import text

ADULT = {"comparison": {"attribute": "age", "operator": "ge", "value": 18}}
LYON = {"comparison": {"attribute": "city", "operator": "eq", "value": "Lyon"}}


async def _someone_waits_for_a_row(database: Database) -> bool:
    async with database.reading() as session:
        rows = await session.execute(text("SELECT count(*) FROM pg_locks WHERE NOT granted"))
        return bool(rows.scalar_one())


def _moves(events: list[Any]) -> list[Any]:
    return [event for event in events if not isinstance(event, ProfileUpdated | ProfilesImported)]


async def _finish(work: SegmentWork) -> None:
    while await work.step():
        pass


async def _segment(database: Database, workspace_id: UUID, segment_id: UUID) -> Segment:
    async with database.reading() as session:
        return await get_segment(session, workspace_id=workspace_id, segment_id=segment_id)


async def _members(database: Database, workspace_id: UUID, segment_id: UUID) -> set[str]:
    async with database.reading() as session:
        page = await list_segment_members(
            session, workspace_id=workspace_id, segment_id=segment_id, page_size=200, page_token=""
        )
    return {one.external_id for one in page.items}


async def test_a_new_segment_is_filled_with_those_who_match(
    upsert: Upsert, create: CreateSegment, database: Database, workspace_id: UUID
) -> None:
    await upsert({"old": {"age": 40.0}, "young": {"age": 4.0}, "unknown": {}})
    await upsert({"stranger": {"age": 40.0}}, workspace=new_id())

    segment = await create("adults", ADULT)

    assert segment.member_count == 1
    assert await _members(database, workspace_id, segment.id) == {"old"}


async def test_who_comes_to_match_enters_and_who_stops_leaves_each_said_once(
    upsert: Upsert,
    create: CreateSegment,
    new_events: NewEvents,
    database: Database,
    workspace_id: UUID,
    clock: FakeClock,
) -> None:
    segment = await create("adults", ADULT)
    await new_events()
    (person,) = await upsert({"u": {"age": 17.0}})
    profile_id = show_id(PROFILE, person.id)
    ids: dict[str, Any] = {
        "segment_id": show_id(SEGMENT, segment.id),
        "profile_id": profile_id,
        "profile_ids": [profile_id],
    }
    assert _moves(await new_events()) == []

    for age, expected in (
        (18.0, SegmentEntered),
        (19.0, None),
        (3.0, SegmentLeft),
        (2.0, None),
        (50.0, SegmentEntered),
    ):
        await clock.advance(timedelta(minutes=1))
        await upsert({"u": {"age": age}})
        assert _moves(await new_events()) == ([expected(**ids)] if expected else [])

    async with database.reading() as session:
        found = await get_segment(session, workspace_id=workspace_id, segment_id=segment.id)
        row = (await session.execute(text("SELECT enter_time, leave_time FROM membership"))).one()
    assert found.member_count == 1
    assert tuple(row) == (clock.now(), None)


async def test_the_count_follows_many_moves_at_once(
    upsert: Upsert, create: CreateSegment, database: Database, workspace_id: UUID
) -> None:
    segments = [await create("adults", ADULT), await create("lyon", LYON), await create("not lyon", {"not": LYON})]
    await upsert({f"u{n}": {"age": float(n), "city": "Lyon" if n % 2 else "Nice"} for n in range(40)})
    await upsert({f"u{n}": {"age": 1.0, "city": "Lyon"} for n in range(30)})

    async with database.reading() as session:
        counts = [
            (await get_segment(session, workspace_id=workspace_id, segment_id=one.id)).member_count for one in segments
        ]
    assert counts == [10, 35, 5]


async def test_creating_a_segment_answers_before_it_is_filled_and_one_event_tells_of_everybody(
    upsert: Upsert,
    begin: CreateSegment,
    new_events: NewEvents,
    work: SegmentWork,
    database: Database,
    workspace_id: UUID,
) -> None:
    await upsert({f"u{n}": {"age": 20.0} for n in range(30)})
    await new_events()

    segment = await begin("adults", ADULT)

    assert (segment.state, segment.member_count, await new_events()) == ("filling", 0, [])
    assert await work.step()
    assert (await _segment(database, workspace_id, segment.id)).member_count == 7
    await _finish(work)
    found = await _segment(database, workspace_id, segment.id)
    assert (found.state, found.member_count) == ("active", 30)
    assert await new_events() == [SegmentFilled(segment_id=show_id(SEGMENT, segment.id), member_count=30)]


async def test_moves_while_a_segment_is_filled_are_silent_and_counted(
    upsert: Upsert,
    begin: CreateSegment,
    new_events: NewEvents,
    work: SegmentWork,
    database: Database,
    workspace_id: UUID,
) -> None:
    await upsert({f"u{n:02}": {"age": 20.0} for n in range(30)})
    segment = await begin("adults", ADULT)
    await work.step()

    await upsert({"u00": {"age": 2.0}, "u29": {"age": 2.0}, "new": {"age": 30.0}})

    assert _moves(await new_events()) == []
    await _finish(work)
    (filled,) = await new_events()
    assert filled == SegmentFilled(segment_id=show_id(SEGMENT, segment.id), member_count=29)
    assert len(await _members(database, workspace_id, segment.id)) == 29
    await upsert({"u00": {"age": 20.0}, "new": {"age": 3.0}})
    assert [type(event) for event in _moves(await new_events())] == [SegmentEntered, SegmentLeft]


async def test_a_change_under_way_when_the_filling_ends_counts_and_is_told(
    upsert: Upsert,
    begin: CreateSegment,
    new_events: NewEvents,
    work: SegmentWork,
    database: Database,
    workspace_id: UUID,
) -> None:
    segment = await begin("adults", ADULT)
    await work.step()
    await new_events()
    async with database.transaction() as session:
        # What the last chunk does: it holds the segment when the change, which read "filling", comes to count.
        await session.execute(text("UPDATE segment SET state = 'active'"))
        changing = asyncio.create_task(upsert({"u": {"age": 20.0}}))
        await until(lambda: _someone_waits_for_a_row(database), timeout=5)

    await changing
    assert [type(event) for event in _moves(await new_events())] == [SegmentEntered]
    assert (await _segment(database, workspace_id, segment.id)).member_count == 1


async def test_the_last_chunk_counts_the_change_that_it_waited_for(
    begin: CreateSegment,
    new_events: NewEvents,
    work: SegmentWork,
    database: Database,
    workspace_id: UUID,
    clock: FakeClock,
) -> None:
    await begin("adults", ADULT)
    async with database.transaction() as session:
        await session.execute(text("UPDATE segment_work SET waits_for = '{}'"))
    async with database.transaction() as session:
        inputs = [ProfileInput(new_id(), "u", {"age": 20.0})]
        await upsert_profiles(session, workspace_id=workspace_id, inputs=inputs, now=clock.now())
        filling = asyncio.create_task(work.step())
        await until(lambda: _someone_waits_for_a_row(database), timeout=5)

    await filling
    (filled,) = _moves(await new_events())
    assert (type(filled), filled.member_count) == (SegmentFilled, 1)


async def test_a_chunk_judges_a_profile_that_is_being_changed_as_it_became(
    upsert: Upsert,
    begin: CreateSegment,
    new_events: NewEvents,
    work: SegmentWork,
    database: Database,
    workspace_id: UUID,
    clock: FakeClock,
) -> None:
    await upsert({"u": {"age": 20.0}})
    segment = await begin("adults", ADULT)
    async with database.transaction() as session:
        await session.execute(text("UPDATE segment_work SET waits_for = '{}'"))
    async with database.transaction() as session:
        inputs = [ProfileInput(new_id(), "u", {"age": 2.0})]
        await upsert_profiles(session, workspace_id=workspace_id, inputs=inputs, now=clock.now())
        filling = asyncio.create_task(work.step())
        await until(lambda: _someone_waits_for_a_row(database), timeout=5)

    await filling
    assert await _members(database, workspace_id, segment.id) == set()
    (filled,) = [event for event in _moves(await new_events()) if isinstance(event, SegmentFilled)]
    assert filled.member_count == 0


async def test_many_moves_by_one_change_are_one_event_a_segment(
    upsert: Upsert, create: CreateSegment, new_events: NewEvents
) -> None:
    segments = [await create("adults", ADULT), await create("everybody", {"not": LYON})]
    await new_events()

    made = await upsert({f"u{n}": {"age": 20.0} for n in range(300)})

    events = _moves(await new_events())
    assert [(type(event), event.segment_id, event.profile_id) for event in events] == [
        (SegmentEntered, show_id(SEGMENT, one.id), "") for one in segments
    ]
    assert all(set(event.profile_ids) == {show_id(PROFILE, one.id) for one in made} for event in events)


async def test_a_restart_goes_on_where_the_last_chunk_ended(
    upsert: Upsert,
    begin: CreateSegment,
    new_events: NewEvents,
    work: SegmentWork,
    database: Database,
    clock: FakeClock,
    workspace_id: UUID,
    stopping: asyncio.Event,
) -> None:
    await upsert({f"u{n}": {"age": 20.0} for n in range(40)})
    segment = await begin("adults", ADULT)
    await new_events()
    await work.step()

    loops = [asyncio.create_task(SegmentWork(database, clock, chunk=3).run(stopping)) for _ in range(3)]

    (filled,) = await until(new_events)
    assert (filled.segment_id, filled.member_count) == (show_id(SEGMENT, segment.id), 40)
    assert len(await _members(database, workspace_id, segment.id)) == 40
    stopping.set()
    await asyncio.gather(*loops)


async def test_the_loop_is_woken_by_a_new_segment(
    upsert: Upsert, begin: CreateSegment, new_events: NewEvents, work: SegmentWork, stopping: asyncio.Event
) -> None:
    await upsert({"u": {"age": 20.0}})
    await new_events()
    loop = asyncio.create_task(work.run(stopping))
    await begin("adults", ADULT)
    work.wake.set()

    (event,) = await until(new_events)

    assert isinstance(event, SegmentFilled)
    stopping.set()
    await loop


async def test_a_chunk_that_fails_is_put_off_and_other_workspaces_go_on(
    upsert: Upsert, begin: CreateSegment, new_events: NewEvents, work: SegmentWork, database: Database, clock: FakeClock
) -> None:
    broken, sound = await begin("broken", ADULT), await begin("adults", ADULT)
    async with database.transaction() as session:
        await session.execute(
            text("UPDATE segment SET rule = CAST(:rule AS jsonb) WHERE id = :id"),
            {"rule": '{"no": "rule"}', "id": broken.id},
        )

    await _finish(work)

    assert [event.segment_id for event in await new_events()] == [show_id(SEGMENT, sound.id)]
    async with database.reading() as session:
        left = (await session.execute(text("SELECT segment_id, failures, next_time FROM segment_work"))).one()
    assert tuple(left) == (broken.id, 1, clock.now() + timedelta(seconds=1))


async def test_workspaces_take_turns(
    upsert: Upsert, begin: CreateSegment, work: SegmentWork, database: Database, clock: FakeClock, new_events: NewEvents
) -> None:
    await upsert({f"u{n}": {"age": 20.0} for n in range(50)})
    for n in range(5):
        await begin(f"adults {n}", ADULT)
    await work.step()
    other = new_id()
    await upsert({"v": {"age": 20.0}}, workspace=other)
    async with database.transaction() as session:
        mine = await create_segment(
            session,
            segment_id=new_id(),
            workspace_id=other,
            request_id="",
            name="adults",
            rule=parse_rule(ADULT),
            now=clock.now(),
        )

    assert await work.step()

    assert (await _segment(database, other, mine.id)).state == "active"


async def test_the_filling_waits_for_a_change_that_does_not_know_the_segment(
    upsert: Upsert, begin: CreateSegment, work: SegmentWork, database: Database, workspace_id: UUID, clock: FakeClock
) -> None:
    async with database.transaction() as session:
        inputs = [ProfileInput(new_id(), "u", {"age": 20.0})]
        await upsert_profiles(session, workspace_id=workspace_id, inputs=inputs, now=clock.now())
        segment = await begin("adults", ADULT)
        await _finish(work)
        # Neither the new segment nor other changes wait meanwhile.
        assert (await _segment(database, workspace_id, segment.id)).state == "filling"
        await upsert({"v": {"age": 20.0}})

    await clock.advance(timedelta(seconds=1))
    await _finish(work)

    found = await _segment(database, workspace_id, segment.id)
    assert (found.state, found.member_count) == ("active", 2)
    assert await _members(database, workspace_id, segment.id) == {"u", "v"}


async def test_a_change_waits_for_no_filling(
    upsert: Upsert, begin: CreateSegment, database: Database, workspace_id: UUID
) -> None:
    await upsert({f"u{n}": {"age": 20.0} for n in range(9)})
    segment = await begin("adults", ADULT)
    async with database.transaction() as chunk:
        await chunk.execute(text("SELECT * FROM segment_work FOR UPDATE"))

        await upsert({"u0": {"age": 3.0}, "new": {"age": 20.0}})

    assert await _members(database, workspace_id, segment.id) == {"new"}


async def test_segments_filled_while_profiles_change_miss_and_double_nobody(
    upsert: Upsert,
    begin: CreateSegment,
    new_events: NewEvents,
    database: Database,
    workspace_id: UUID,
    clock: FakeClock,
    stopping: asyncio.Event,
) -> None:
    async def change(writer: int) -> None:
        for step in range(10):
            await upsert({f"u{writer}_{n}": {"age": float((n * 7 + step * 5) % 36)} for n in range(25)})
            # Some people belong to all writers.
            await upsert({f"u{n}": {"age": float((n * 7 + step * 5 + writer) % 36)} for n in range(20)})

    async def pass_time() -> None:
        while not stopping.is_set():
            await clock.advance(timedelta(milliseconds=50))
            await asyncio.sleep(0)

    replicas = [SegmentWork(database, clock, chunk=5) for _ in range(2)]
    loops = [asyncio.create_task(one.run(stopping)) for one in replicas]
    ticking = asyncio.create_task(pass_time())

    await asyncio.gather(*(change(writer) for writer in range(4)), *(begin(f"adults {n}", ADULT) for n in range(4)))

    async def filled() -> bool:
        async with database.reading() as session:
            return not (await session.execute(text("SELECT count(*) FROM segment_work"))).scalar_one()

    await until(filled, timeout=20)
    stopping.set()
    await asyncio.gather(*loops, ticking)

    async with database.transaction() as session:
        preview = await preview_segment(session, workspace_id=workspace_id, rule=parse_rule(ADULT), sample_size=50)
        page = await list_segments(session, workspace_id=workspace_id, page_size=50, page_token="")
        rows = await session.execute(text("SELECT segment_id, profile_id FROM membership WHERE leave_time IS NULL"))
        members = {(show_id(SEGMENT, row.segment_id), show_id(PROFILE, row.profile_id)) for row in rows}
        rows = await session.execute(text("SELECT id FROM profile WHERE CAST(attributes -> 'age' AS numeric) >= 18"))
        adults = {show_id(PROFILE, row.id) for row in rows}
    events = _moves(await new_events())
    assert preview.count == len(adults) > 0
    assert [one.member_count for one in page.items] == [preview.count] * 4
    assert members == {(show_id(SEGMENT, one.id), adult) for one in page.items for adult in adults}
    told = {event.segment_id: event.member_count for event in events if isinstance(event, SegmentFilled)}
    counted = _each_story_alternates([event for event in events if not isinstance(event, SegmentFilled)], members)
    assert len(told) == 4
    assert {segment_id: counted.get(segment_id, 0) for segment_id in told} == told


def _each_story_alternates(moves: list[Any], members: set[tuple[str, str]]) -> dict[str, int]:
    """Replays the moves backwards from who is in at the end, and returns how many were in at each filling's end."""
    inside = set(members)
    for event in reversed(moves):
        for profile_id in getattr(event, "profile_ids", ()):
            pair = (event.segment_id, profile_id)
            if isinstance(event, SegmentEntered):
                assert pair in inside, "entered twice, or left without a word"
                inside.remove(pair)
            else:
                assert pair not in inside, "left twice, or entered without a word"
                inside.add(pair)
    return dict(Counter(segment_id for segment_id, _ in inside))


async def test_a_name_is_taken_once_in_a_workspace(create: CreateSegment) -> None:
    await create("adults", ADULT)

    with pytest.raises(SegmentNameTaken):
        await create("adults", LYON)


async def test_names_taken_at_once_go_to_one(create: CreateSegment) -> None:
    outcomes = await asyncio.gather(*(create("adults", ADULT) for _ in range(5)), return_exceptions=True)

    assert sorted(type(one).__name__ for one in outcomes) == ["Segment", *["SegmentNameTaken"] * 4]


async def test_the_same_request_makes_one_segment(create: CreateSegment, database: Database) -> None:
    first = await create("adults", ADULT, request_id="r1")

    assert await create("adults", ADULT, request_id="r1") == first
    with pytest.raises(RequestIdReused):
        await create("lyon", LYON, request_id="r1")


@pytest.mark.parametrize("name", ["", "  ", "a" * 201, "a\x00b", "a\nb"])
async def test_a_name_of_the_wrong_form_is_refused(create: CreateSegment, name: str) -> None:
    with pytest.raises(InvalidSegment):
        await create(name, ADULT)


async def test_a_preview_stores_nothing(upsert: Upsert, database: Database, workspace_id: UUID) -> None:
    await upsert({f"u{n}": {"age": float(n)} for n in range(30)})

    async with database.reading() as session:
        found = await preview_segment(session, workspace_id=workspace_id, rule=parse_rule(ADULT), sample_size=5)
        stored = (await session.execute(text("SELECT count(*) FROM membership"))).scalar_one()

    assert (found.count, len(found.sample), stored) == (12, 5, 0)
    ages = [one.attributes["age"] for one in found.sample]
    assert all(isinstance(age, float) and age >= 18 for age in ages)


async def test_pages_of_members_show_each_once(
    upsert: Upsert, create: CreateSegment, database: Database, workspace_id: UUID
) -> None:
    segment = await create("adults", ADULT)
    await upsert({f"u{n}": {"age": 20.0} for n in range(7)})
    seen: list[str] = []
    token = ""
    while True:
        async with database.reading() as session:
            page = await list_segment_members(
                session, workspace_id=workspace_id, segment_id=segment.id, page_size=3, page_token=token
            )
        seen += [one.external_id for one in page.items]
        token = page.next_page_token
        if not token:
            break

    assert sorted(seen) == [f"u{n}" for n in range(7)]


async def _delete(database: Database, workspace_id: UUID, segment_id: UUID, clock: FakeClock) -> None:
    async with database.transaction() as session:
        await delete_segment(session, workspace_id=workspace_id, segment_id=segment_id, now=clock.now())


@pytest.mark.parametrize("chunks", [0, 1, 100])
async def test_a_deleted_segment_is_gone_at_once_and_its_members_soon_after(
    upsert: Upsert,
    begin: CreateSegment,
    new_events: NewEvents,
    work: SegmentWork,
    database: Database,
    workspace_id: UUID,
    clock: FakeClock,
    chunks: int,
) -> None:
    await upsert({f"u{n}": {"age": 20.0} for n in range(30)})
    kept, segment = await begin("kept", ADULT), await begin("adults", ADULT)
    for _ in range(chunks):
        await work.step()
    await new_events()

    await _delete(database, workspace_id, segment.id, clock)

    assert await new_events() == [SegmentDeleted(segment_id=show_id(SEGMENT, segment.id))]
    with pytest.raises(SegmentNotFound):
        await _segment(database, workspace_id, segment.id)
    with pytest.raises(SegmentNotFound):
        await _delete(database, workspace_id, segment.id, clock)
    with pytest.raises(SegmentNotFound):
        await _delete(database, new_id(), kept.id, clock)
    await upsert({"u0": {"age": 3.0}, "new": {"age": 20.0}})
    assert {getattr(event, "segment_id", "") for event in _moves(await new_events())} <= {show_id(SEGMENT, kept.id)}
    again = await begin("adults", LYON)
    await _finish(work)
    async with database.reading() as session:
        rows = await session.execute(text("SELECT segment_id, count(*) FROM membership GROUP BY 1"))
        assert {row.segment_id for row in rows} == {kept.id}
        rows = await session.execute(text("SELECT id FROM segment ORDER BY id"))
        assert list(rows.scalars()) == [kept.id, again.id]


async def test_a_removal_waits_for_a_change_that_still_sees_the_segment(
    upsert: Upsert, create: CreateSegment, work: SegmentWork, database: Database, workspace_id: UUID, clock: FakeClock
) -> None:
    segment = await create("adults", LYON)
    async with database.transaction() as session:
        inputs = [ProfileInput(new_id(), "u", {"city": "Lyon"})]
        await upsert_profiles(session, workspace_id=workspace_id, inputs=inputs, now=clock.now())
        deleting = asyncio.create_task(_delete(database, workspace_id, segment.id, clock))
        await until(lambda: _someone_waits_for_a_row(database), timeout=5)
    await deleting
    await _finish(work)

    async with database.reading() as session:
        assert (await session.execute(text("SELECT count(*) FROM membership"))).scalar_one() == 0


async def test_a_workspace_has_a_limited_number_of_segments_and_deleting_makes_room(
    begin: CreateSegment, database: Database, workspace_id: UUID, clock: FakeClock
) -> None:
    made = [await begin(f"s{n}", ADULT) for n in range(MAX_SEGMENTS)]

    with pytest.raises(TooManySegments):
        await begin("one more", ADULT)

    await _delete(database, workspace_id, made[0].id, clock)
    await begin("one more", ADULT)


async def test_a_segment_is_judged_only_by_the_attributes_that_it_looks_at(
    upsert: Upsert, create: CreateSegment, new_events: NewEvents, database: Database
) -> None:
    await create("adults", ADULT)
    await upsert({"u": {"age": 20.0}})
    await new_events()
    async with database.transaction() as session:
        # Were it judged again, this rule would not be read.
        await session.execute(text("UPDATE segment SET rule = CAST(:rule AS jsonb)"), {"rule": '{"no": "rule"}'})

    await upsert({"u": {"city": "Lyon"}})

    with pytest.raises(InvalidRule):
        await upsert({"u": {"age": 3.0}})


async def test_judging_many_profiles_lets_others_have_their_turns() -> None:
    heavy = {"any": [{"comparison": {"attribute": "a", "operator": "contains", "value": f"{n}x"}} for n in range(50)]}
    segments = [memberships._Segment(new_id(), SegmentState.ACTIVE, json.dumps(heavy)) for _ in range(10)]
    changed = [memberships.ChangedProfile(new_id(), {"a": "y" * 100}, ["a"], True, "") for _ in range(400)]
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(others())
    wanted = await memberships._judge(segments, changed)
    counting.cancel()

    assert set(map(len, wanted.values())) == {0}
    # Judging waits for nothing else, so that each turn of the others is one that it gave.
    assert turns >= 400 * 10 * 50 // memberships.CONDITIONS_A_TURN
