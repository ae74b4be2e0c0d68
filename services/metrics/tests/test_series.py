"""Series against a naive computation, and their limits."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from regie_chassis.boundary.ids import new_id
from regie_chassis.data.database import Database
from regie_metrics.observations.ingestion import Observation, ingest
from regie_metrics.series import InvalidRange, Point, UnknownMetric, get_post_metrics, get_post_series

START = datetime(2026, 3, 2, tzinfo=UTC)
CHANNELS = [new_id(), new_id(), new_id()]
HOUR, DAY = timedelta(hours=1), timedelta(days=1)

Reading = tuple[int, int, int]  # channel, minutes after START, value


def _observations(workspace_id: UUID, post_id: UUID, readings: Sequence[Reading]) -> list[Observation]:
    return [
        Observation(
            workspace_id, post_id, CHANNELS[channel], "sandbox", "likes", START + timedelta(minutes=minutes), value
        )
        for channel, minutes, value in readings
    ]


async def _series(database: Database, workspace_id: UUID, post_id: UUID, **changes: object) -> list[Point]:
    query: dict[str, Any] = {
        "metric": "likes",
        "granularity": "hour",
        "start_time": START,
        "end_time": START + 5 * DAY,
        **changes,
    }
    async with database.reading() as session:
        return await get_post_series(session, workspace_id=workspace_id, post_id=post_id, **query)


async def _given(database: Database, readings: Sequence[Reading]) -> tuple[UUID, UUID]:
    workspace_id, post_id = new_id(), new_id()
    async with database.transaction() as session:
        await ingest(session, _observations(workspace_id, post_id, readings))
    return workspace_id, post_id


def _naively(readings: Sequence[Reading], bucket: timedelta, start: datetime, end: datetime) -> list[Point]:
    """Walks bucket by bucket and asks each channel for its last number up to the bucket's end."""

    def total(until: datetime) -> int:
        in_order = sorted(readings, key=lambda reading: reading[1])
        known = {channel: value for channel, at, value in in_order if START + timedelta(minutes=at) < until}
        return sum(known.values())

    times = [START + timedelta(minutes=minutes) for _, minutes, _ in readings]
    first = START - 10 * DAY
    points, before = [], 0
    for begin in (first + n * bucket for n in range(20 * DAY // bucket)):
        if any(begin <= time < begin + bucket for time in times) and begin < end:
            now = total(begin + bucket)
            if begin + bucket > start:
                points.append(Point(begin, now, now - before))
            before = now
    return points


@given(
    readings=st.lists(
        st.tuples(st.integers(0, 2), st.integers(-1500, 1500), st.integers(0, 30)),
        min_size=1,
        max_size=20,
        unique_by=lambda reading: reading[:2],
    ),
    day=st.booleans(),
    begin=st.integers(-1600, 1600),
    length=st.integers(1, 2000),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_a_series_is_what_the_formula_says(
    database: Database, readings: list[Reading], day: bool, begin: int, length: int
) -> None:
    ids = await _given(database, readings)
    start_time = START + timedelta(minutes=begin)
    end_time = start_time + timedelta(minutes=length)

    found = await _series(
        database, *ids, granularity="day" if day else "hour", start_time=start_time, end_time=end_time
    )

    assert found == _naively(readings, DAY if day else HOUR, start_time, end_time)


async def test_a_channel_that_was_not_read_counts_with_its_last_number(database: Database) -> None:
    ids = await _given(database, [(0, 10, 5), (1, 20, 3), (0, 130, 8)])

    assert await _series(database, *ids) == [Point(START, 8, 8), Point(START + 2 * HOUR, 11, 3)]


async def test_what_a_network_takes_back_is_a_negative_gain(database: Database) -> None:
    ids = await _given(database, [(0, 10, 5), (0, 70, 2)])

    assert await _series(database, *ids) == [Point(START, 5, 5), Point(START + HOUR, 2, -3)]


async def test_a_range_that_begins_late_gains_against_what_was_before_it(database: Database) -> None:
    ids = await _given(database, [(0, 10, 5), (0, 70, 9)])

    assert await _series(database, *ids, start_time=START + HOUR) == [Point(START + HOUR, 9, 4)]


async def test_totals_are_the_newest_numbers_by_channel_and_their_sums(database: Database) -> None:
    workspace_id, post_id = await _given(database, [(0, 10, 5), (0, 5, 99), (1, 20, 3)])

    async with database.reading() as session:
        found = await get_post_metrics(session, workspace_id=workspace_id, post_id=post_id)

    assert found.totals == {"likes": 8}
    assert {one.channel_id: (one.values, one.observe_time) for one in found.channels} == {
        CHANNELS[0]: ({"likes": 5}, START + timedelta(minutes=10)),
        CHANNELS[1]: ({"likes": 3}, START + timedelta(minutes=20)),
    }


@pytest.mark.parametrize(
    "changes",
    [
        {"end_time": START},
        {"end_time": START - HOUR},
        {"end_time": START + timedelta(days=731, seconds=1), "granularity": "day"},
        {"end_time": START + timedelta(days=100, seconds=1)},
        {"granularity": "minute"},
        {"granularity": ""},
    ],
)
async def test_a_range_that_means_nothing_is_refused(database: Database, changes: dict[str, object]) -> None:
    with pytest.raises(InvalidRange):
        await _series(database, new_id(), new_id(), **changes)


@pytest.mark.parametrize("metric", ["", "Likes", "engagements", "likes; DROP TABLE latest"])
async def test_a_metric_outside_the_list_is_refused(database: Database, metric: str) -> None:
    with pytest.raises(UnknownMetric):
        await _series(database, new_id(), new_id(), metric=metric)


async def test_a_number_that_was_read_long_ago_keeps_its_own_time(database: Database) -> None:
    workspace_id, post_id = new_id(), new_id()
    old, new = START, START + 5 * DAY
    async with database.transaction() as session:
        for metric, time in (("impressions", old), ("likes", old), ("likes", new)):
            await ingest(session, [Observation(workspace_id, post_id, CHANNELS[0], "sandbox", metric, time, 4)])

    async with database.reading() as session:
        (channel,) = (await get_post_metrics(session, workspace_id=workspace_id, post_id=post_id)).channels

    assert channel.observe_times == {"impressions": old, "likes": new}
    assert channel.observe_time == new
