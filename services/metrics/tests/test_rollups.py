"""Roll-ups are a function of the observations, in any order and with any repetition."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from uuid import UUID

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from regie_chassis.boundary.ids import new_id
from regie_chassis.data.database import Database
from regie_metrics.observations.ingestion import Observation, ingest
from sqlalchemy import text

MIDNIGHT = datetime(2026, 3, 2, tzinfo=UTC)
POSTS = [new_id(), new_id()]
CHANNELS = [new_id(), new_id()]

Key = tuple[object, ...]
Kept = dict[Key, tuple[datetime, int]]

readings = st.builds(
    Observation,
    workspace_id=st.just(POSTS[0]),
    post_id=st.sampled_from(POSTS),
    channel_id=st.sampled_from(CHANNELS),
    network=st.just("sandbox"),
    metric=st.sampled_from(["likes", "replies"]),
    observe_time=st.integers(-5_400, 5_400).map(lambda seconds: MIDNIGHT + timedelta(seconds=seconds)),
    value=st.integers(0, 20),
)


def _naively(taken: Sequence[Observation]) -> dict[str, Kept]:
    """Computes every table from scratch, one observation after the other in the order of their times."""
    tables: dict[str, Kept] = {"observation": {}, "hourly": {}, "daily": {}, "latest": {}}
    for one in sorted(taken, key=lambda one: (one.observe_time, one.value)):
        key = (one.post_id, one.channel_id, one.metric)
        hour = one.observe_time.replace(minute=0, second=0)
        reading = (one.observe_time, one.value)
        tables["observation"][*key, one.observe_time] = reading
        tables["hourly"][*key, hour] = reading
        tables["daily"][*key, hour.replace(hour=0)] = reading
        tables["latest"][key] = reading
    return tables


async def _kept(database: Database, workspace_id: UUID) -> dict[str, Kept]:
    tables: dict[str, Kept] = {}
    for table, own in (
        ("observation", "observe_time"),
        ("hourly", "start_time"),
        ("daily", "start_time"),
        ("latest", ""),
    ):
        async with database.reading() as session:
            rows = await session.execute(
                text(
                    f"SELECT post_id, channel_id, metric, observe_time, value {',' + own + ' AS own' if own else ''}"
                    f" FROM {table} WHERE workspace_id = :workspace_id"
                ),
                {"workspace_id": workspace_id},
            )
            tables[table] = {
                (row.post_id, row.channel_id, row.metric, *([row.own] if own else [])): (row.observe_time, row.value)
                for row in rows
            }
    return tables


def _of(workspace_id: UUID, taken: Sequence[Observation]) -> list[Observation]:
    return [
        Observation(workspace_id, one.post_id, one.channel_id, one.network, one.metric, one.observe_time, one.value)
        for one in taken
    ]


@given(
    taken=st.lists(readings, min_size=1, max_size=25),
    seed=st.integers(),
    cuts=st.lists(st.integers(0, 60), max_size=3),
)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_any_order_and_repetition_ends_in_the_tables_of_a_naive_computation(
    database: Database, taken: list[Observation], seed: int, cuts: list[int]
) -> None:
    workspace_id, chance = new_id(), random.Random(seed)
    arriving = _of(workspace_id, taken + chance.choices(taken, k=len(taken)))
    chance.shuffle(arriving)
    edges = sorted({0, len(arriving), *(min(cut, len(arriving)) for cut in cuts)})

    for begin, end in pairwise(edges):
        async with database.transaction() as session:
            await ingest(session, arriving[begin:end])

    assert await _kept(database, workspace_id) == _naively(taken)


async def test_ingests_of_the_same_rows_at_once_neither_deadlock_nor_lose(database: Database) -> None:
    workspace_id, chance = new_id(), random.Random(1)
    taken = [
        Observation(workspace_id, post, channel, "sandbox", "likes", MIDNIGHT + timedelta(minutes=n), n)
        for post in POSTS
        for channel in CHANNELS
        for n in range(120)
    ]

    async def arrive(seed: int) -> None:
        mine = list(taken)
        random.Random(seed).shuffle(mine)
        for begin in range(0, len(mine), 60):
            async with database.transaction() as session:
                await ingest(session, mine[begin : begin + 60])

    await asyncio.gather(*(arrive(chance.randrange(1_000)) for _ in range(6)))

    assert await _kept(database, workspace_id) == _naively(taken)


async def test_a_reading_before_midnight_and_one_at_midnight_are_of_two_days(database: Database) -> None:
    workspace_id = new_id()
    taken = [
        Observation(workspace_id, POSTS[0], CHANNELS[0], "sandbox", "likes", MIDNIGHT + by, value)
        for by, value in ((timedelta(microseconds=-1), 7), (timedelta(0), 9))
    ]
    async with database.transaction() as session:
        await ingest(session, taken)

    kept = await _kept(database, workspace_id)

    assert {key[3]: value for key, (_, value) in kept["daily"].items()} == {
        MIDNIGHT - timedelta(days=1): 7,
        MIDNIGHT: 9,
    }
    async with database.reading() as session:
        rows = await session.execute(text("SELECT count(*) FROM observation_20260301"))
        assert rows.scalar_one() == 1
