"""A change of profiles moves them into and out of segments, and each move is one event."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from regie.audience.events.v1.audience_events_pb2 import (
    SegmentEntered,
    SegmentLeft,
)
from regie.ids.v1.prefixes import PROFILE, SEGMENT
from regie_audience.memberships import changes as memberships
from regie_audience.memberships.states import SegmentState
from regie_audience.rules.model import InvalidRule
from regie_audience.segments.queries import get_segment
from regie_audience.testing import (
    ADULT,
    LYON,
    CreateSegment,
    NewEvents,
    Upsert,
    members_of,
    moves_of,
)
from regie_chassis.boundary.ids import new_id, show_id
from regie_chassis.data.database import Database
from regie_local.testing.clock import FakeClock
from sqlalchemy import text


async def test_a_new_segment_is_filled_with_those_who_match(
    upsert: Upsert, create: CreateSegment, database: Database, workspace_id: UUID
) -> None:
    await upsert({"old": {"age": 40.0}, "young": {"age": 4.0}, "unknown": {}})
    await upsert({"stranger": {"age": 40.0}}, workspace=new_id())

    segment = await create("adults", ADULT)

    assert segment.member_count == 1
    assert await members_of(database, workspace_id, segment.id) == {"old"}


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
    assert moves_of(await new_events()) == []

    for age, expected in (
        (18.0, SegmentEntered),
        (19.0, None),
        (3.0, SegmentLeft),
        (2.0, None),
        (50.0, SegmentEntered),
    ):
        await clock.advance(timedelta(minutes=1))
        await upsert({"u": {"age": age}})
        assert moves_of(await new_events()) == ([expected(**ids)] if expected else [])

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


async def test_many_moves_by_one_change_are_one_event_a_segment(
    upsert: Upsert, create: CreateSegment, new_events: NewEvents
) -> None:
    segments = [await create("adults", ADULT), await create("everybody", {"not": LYON})]
    await new_events()

    made = await upsert({f"u{n}": {"age": 20.0} for n in range(300)})

    events = moves_of(await new_events())
    assert [(type(event), event.segment_id, event.profile_id) for event in events] == [
        (SegmentEntered, show_id(SEGMENT, one.id), "") for one in segments
    ]
    assert all(set(event.profile_ids) == {show_id(PROFILE, one.id) for one in made} for event in events)


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
