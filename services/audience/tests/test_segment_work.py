"""The loop fills and removes segments in chunks, beside changes of the same profiles."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from uuid import UUID

import pytest
from regie.audience.events.v1.audience_events_pb2 import (
    SegmentDeleted,
    SegmentEntered,
    SegmentFilled,
    SegmentLeft,
)
from regie.ids.v1.prefixes import SEGMENT
from regie_audience.memberships.work import SegmentWork
from regie_audience.rules.model import parse_rule
from regie_audience.segments.lifecycle import (
    create_segment,
)
from regie_audience.segments.queries import SegmentNotFound
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
    assert (await read_segment(database, workspace_id, segment.id)).member_count == 7
    await finish(work)
    found = await read_segment(database, workspace_id, segment.id)
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

    assert moves_of(await new_events()) == []
    await finish(work)
    (filled,) = await new_events()
    assert filled == SegmentFilled(segment_id=show_id(SEGMENT, segment.id), member_count=29)
    assert len(await members_of(database, workspace_id, segment.id)) == 29
    await upsert({"u00": {"age": 20.0}, "new": {"age": 3.0}})
    assert [type(event) for event in moves_of(await new_events())] == [SegmentEntered, SegmentLeft]


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
    assert len(await members_of(database, workspace_id, segment.id)) == 40
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

    await finish(work)

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

    assert (await read_segment(database, other, mine.id)).state == "active"


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

    await remove(database, workspace_id, segment.id, clock.now())

    assert await new_events() == [SegmentDeleted(segment_id=show_id(SEGMENT, segment.id))]
    with pytest.raises(SegmentNotFound):
        await read_segment(database, workspace_id, segment.id)
    with pytest.raises(SegmentNotFound):
        await remove(database, workspace_id, segment.id, clock.now())
    with pytest.raises(SegmentNotFound):
        await remove(database, new_id(), kept.id, clock.now())
    await upsert({"u0": {"age": 3.0}, "new": {"age": 20.0}})
    assert {getattr(event, "segment_id", "") for event in moves_of(await new_events())} <= {show_id(SEGMENT, kept.id)}
    again = await begin("adults", LYON)
    await finish(work)
    async with database.reading() as session:
        rows = await session.execute(text("SELECT segment_id, count(*) FROM membership GROUP BY 1"))
        assert {row.segment_id for row in rows} == {kept.id}
        rows = await session.execute(text("SELECT id FROM segment ORDER BY id"))
        assert list(rows.scalars()) == [kept.id, again.id]
