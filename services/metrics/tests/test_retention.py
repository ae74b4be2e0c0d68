"""The life of roll-ups."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

import pytest
from pydantic import ValidationError
from regie_chassis.boundary.ids import new_id
from regie_chassis.data.database import Database
from regie_local.testing.clock import FakeClock
from regie_metrics.observations.ingestion import Observation, ingest
from regie_metrics.observations.retention import purge_daily, purge_hourly
from regie_metrics.settings import MetricsSettings
from sqlalchemy import text

LIFE = timedelta(days=400)
DAY = timedelta(days=1)
WORKSPACE = new_id()


async def _observe(database: Database, post_id: UUID, *times: datetime) -> None:
    channel_id = new_id()
    taken = [Observation(WORKSPACE, post_id, channel_id, "sandbox", "likes", time, 1) for time in times]
    async with database.transaction() as session:
        await ingest(session, taken)


async def _posts(database: Database, table: str) -> list[UUID]:
    async with database.reading() as session:
        return list((await session.execute(text(f"SELECT post_id FROM {table}"))).scalars())


async def test_a_series_goes_as_a_whole_once_its_newest_bucket_is_old(database: Database, clock: FakeClock) -> None:
    old, young = new_id(), new_id()
    now = clock.now()
    await _observe(database, old, now - LIFE - 3 * DAY, now - LIFE - 2 * DAY)
    await _observe(database, young, now - LIFE - 3 * DAY, now - LIFE + DAY)

    async with database.transaction() as session:
        assert not await purge_hourly(session, now=now, life=LIFE)

    assert await _posts(database, "hourly") == [young, young]
    assert sorted(await _posts(database, "daily")) == sorted([old, old, young, young])
    assert sorted(await _posts(database, "latest")) == sorted([old, young])


async def test_daily_numbers_go_with_the_newest(database: Database, clock: FakeClock) -> None:
    old, young = new_id(), new_id()
    await _observe(database, old, clock.now() - LIFE - DAY)
    await _observe(database, young, clock.now() - LIFE + DAY)

    async with database.transaction() as session:
        assert not await purge_daily(session, now=clock.now(), life=LIFE)

    assert await _posts(database, "daily") == await _posts(database, "latest") == [young]
    assert sorted(await _posts(database, "hourly")) == sorted([old, young])


async def test_series_are_purged_in_bounded_batches(database: Database, clock: FakeClock) -> None:
    for _ in range(3):
        await _observe(database, new_id(), clock.now() - LIFE - DAY)
    more = []
    for _ in range(2):
        async with database.transaction() as session:
            more.append(await purge_hourly(session, now=clock.now(), life=LIFE, batch=2))
    assert (more, await _posts(database, "hourly")) == ([True, False], [])


@pytest.mark.parametrize("name", ["hourly_life_days", "daily_life_days"])
def test_a_roll_up_that_dies_before_its_observations_is_refused(name: str) -> None:
    settings = {"database_url": "postgresql+asyncpg://x/x", "observation_life_days": 90}
    assert MetricsSettings.model_validate({**settings, name: 0})
    assert MetricsSettings.model_validate({**settings, name: 90})
    with pytest.raises(ValidationError):
        MetricsSettings.model_validate({**settings, name: 89})
