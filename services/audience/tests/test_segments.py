"""Segments are named once, previewed, listed and bounded in number."""

from __future__ import annotations

import asyncio
from uuid import UUID

import pytest
from regie_audience.rules.model import parse_rule
from regie_audience.segments.lifecycle import (
    MAX_SEGMENTS,
    InvalidSegment,
    RequestIdReused,
    SegmentNameTaken,
    TooManySegments,
)
from regie_audience.segments.previews import preview_segment
from regie_audience.segments.queries import list_segment_members
from regie_audience.testing import (
    ADULT,
    LYON,
    CreateSegment,
    Upsert,
    remove,
)
from regie_chassis.data.database import Database
from regie_local.testing.clock import FakeClock
from sqlalchemy import text


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


async def test_a_workspace_has_a_limited_number_of_segments_and_deleting_makes_room(
    begin: CreateSegment, database: Database, workspace_id: UUID, clock: FakeClock
) -> None:
    made = [await begin(f"s{n}", ADULT) for n in range(MAX_SEGMENTS)]

    with pytest.raises(TooManySegments):
        await begin("one more", ADULT)

    await remove(database, workspace_id, made[0].id, clock.now())
    await begin("one more", ADULT)
