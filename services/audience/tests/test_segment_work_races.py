"""Fillings and removals meet changes that are under way, and nobody is missed or counted twice."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import timedelta
from typing import Any
from uuid import UUID

from regie.audience.events.v1.audience_events_pb2 import (
    SegmentEntered,
    SegmentFilled,
)
from regie.ids.v1.prefixes import PROFILE, SEGMENT
from regie_audience.memberships.work import SegmentWork
from regie_audience.profiles.changes import ProfileInput, upsert_profiles
from regie_audience.rules.model import parse_rule
from regie_audience.segments.previews import preview_segment
from regie_audience.segments.queries import list_segments
from regie_audience.testing import (
    ADULT,
    LYON,
    CreateSegment,
    NewEvents,
    Upsert,
    finish,
    members_of,
    moves_of,
    read_segment,
    remove,
)
from regie_chassis.boundary.ids import new_id, show_id
from regie_chassis.data.database import Database
from regie_local.testing.clock import FakeClock
from regie_local.testing.waiting import until
from sqlalchemy import text


async def _someone_waits_for_a_row(database: Database) -> bool:
    async with database.reading() as session:
        rows = await session.execute(text("SELECT count(*) FROM pg_locks WHERE NOT granted"))
        return bool(rows.scalar_one())


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
    assert [type(event) for event in moves_of(await new_events())] == [SegmentEntered]
    assert (await read_segment(database, workspace_id, segment.id)).member_count == 1


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
    (filled,) = moves_of(await new_events())
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
    assert await members_of(database, workspace_id, segment.id) == set()
    (filled,) = [event for event in moves_of(await new_events()) if isinstance(event, SegmentFilled)]
    assert filled.member_count == 0


async def test_the_filling_waits_for_a_change_that_does_not_know_the_segment(
    upsert: Upsert, begin: CreateSegment, work: SegmentWork, database: Database, workspace_id: UUID, clock: FakeClock
) -> None:
    async with database.transaction() as session:
        inputs = [ProfileInput(new_id(), "u", {"age": 20.0})]
        await upsert_profiles(session, workspace_id=workspace_id, inputs=inputs, now=clock.now())
        segment = await begin("adults", ADULT)
        await finish(work)
        # Neither the new segment nor other changes wait meanwhile.
        assert (await read_segment(database, workspace_id, segment.id)).state == "filling"
        await upsert({"v": {"age": 20.0}})

    await clock.advance(timedelta(seconds=1))
    await finish(work)

    found = await read_segment(database, workspace_id, segment.id)
    assert (found.state, found.member_count) == ("active", 2)
    assert await members_of(database, workspace_id, segment.id) == {"u", "v"}


async def test_a_change_waits_for_no_filling(
    upsert: Upsert, begin: CreateSegment, database: Database, workspace_id: UUID
) -> None:
    await upsert({f"u{n}": {"age": 20.0} for n in range(9)})
    segment = await begin("adults", ADULT)
    async with database.transaction() as chunk:
        await chunk.execute(text("SELECT * FROM segment_work FOR UPDATE"))

        await upsert({"u0": {"age": 3.0}, "new": {"age": 20.0}})

    assert await members_of(database, workspace_id, segment.id) == {"new"}


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
    events = moves_of(await new_events())
    assert preview.count == len(adults) > 0
    assert [one.member_count for one in page.items] == [preview.count] * 4
    assert members == {(show_id(SEGMENT, one.id), adult) for one in page.items for adult in adults}
    counts = {event.segment_id: event.member_count for event in events if isinstance(event, SegmentFilled)}
    counted = _each_story_alternates([event for event in events if not isinstance(event, SegmentFilled)], members)
    assert len(counts) == 4
    assert {segment_id: counted.get(segment_id, 0) for segment_id in counts} == counts


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


async def test_a_removal_waits_for_a_change_that_still_sees_the_segment(
    upsert: Upsert, create: CreateSegment, work: SegmentWork, database: Database, workspace_id: UUID, clock: FakeClock
) -> None:
    segment = await create("adults", LYON)
    async with database.transaction() as session:
        inputs = [ProfileInput(new_id(), "u", {"city": "Lyon"})]
        await upsert_profiles(session, workspace_id=workspace_id, inputs=inputs, now=clock.now())
        deleting = asyncio.create_task(remove(database, workspace_id, segment.id, clock.now()))
        await until(lambda: _someone_waits_for_a_row(database), timeout=5)
    await deleting
    await finish(work)

    async with database.reading() as session:
        assert (await session.execute(text("SELECT count(*) FROM membership"))).scalar_one() == 0
