"""The publisher's observations are stored once, and impossible ones end in the dead letters."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from regie.ids.v1.prefixes import CHANNEL, POST
from regie_chassis.boundary.ids import new_id, show_id
from regie_chassis.data.database import Database
from regie_chassis.events import dead_letters
from regie_chassis.events.consumer import Consumer
from regie_chassis.events.messaging import Envelope
from regie_chassis.process.retry import RetryPolicy
from regie_chassis.process.service import Service
from regie_local.testing.clock import FakeClock
from regie_local.testing.memory_broker import MemoryBroker
from regie_local.testing.service_fixtures import MakeEnvelope
from regie_local.testing.waiting import until
from regie_metrics.events import subscriptions
from regie_metrics.observations.ingestion import MAX_NUMBERS
from regie_metrics.testing import MakeReading
from sqlalchemy import text

RETENTION = timedelta(days=90)


async def _rows(database: Database, statement: str) -> list[Any]:
    async with database.reading() as session:
        return [tuple(row) for row in await session.execute(text(statement))]


@pytest.fixture
def consumer(database: Database, memory_broker: MemoryBroker, clock: FakeClock) -> Consumer:
    """A consumer without patience, which the test moves by hand."""
    handlers = subscriptions(clock, retention=RETENTION)
    policy = RetryPolicy(max_attempts=1)
    return Consumer(
        "metrics", "publisher", handlers, database=database, broker=memory_broker, clock=clock, policy=policy
    )


async def _deliver(consumer: Consumer, broker: MemoryBroker, envelopes: list[Envelope]) -> None:
    await broker.publish(envelopes)
    await consumer.handle(await broker.fetch(consumer.spec, 100, timedelta(0)))


async def test_an_observation_delivered_ten_times_changes_nothing_more(
    consumer: Consumer,
    database: Database,
    memory_broker: MemoryBroker,
    make_reading: MakeReading,
    make_envelope: MakeEnvelope,
) -> None:
    message = make_envelope(make_reading(values={"likes": 3, "impressions": 40}))
    await memory_broker.publish([message])
    received = await memory_broker.fetch(consumer.spec, 100, timedelta(0))
    await consumer.handle(received)
    tables = ("observation", "hourly", "daily", "latest")
    first = [await _rows(database, f"SELECT *, xmin FROM {table} ORDER BY metric") for table in tables]

    for _ in range(9):
        await consumer.handle(received)

    assert [await _rows(database, f"SELECT *, xmin FROM {table} ORDER BY metric") for table in tables] == first
    assert [len(rows) for rows in first] == [2, 2, 2, 2]


async def test_the_same_reading_in_two_events_is_one_row(
    consumer: Consumer,
    database: Database,
    memory_broker: MemoryBroker,
    make_reading: MakeReading,
    make_envelope: MakeEnvelope,
) -> None:
    reading = make_reading()

    await _deliver(consumer, memory_broker, [make_envelope(reading), make_envelope(reading)])

    assert await _rows(database, "SELECT value FROM observation") == [(1,)]


@pytest.mark.parametrize(
    "absurd",
    [
        {"observe_time": timedelta(hours=2)},
        {"post_id": "post_1"},
        {"channel_id": show_id(POST, new_id())},
        {"network": ""},
    ],
    ids=["future", "post", "channel", "network"],
)
async def test_one_that_cannot_be_true_is_set_aside_and_its_neighbours_go_on(
    consumer: Consumer,
    database: Database,
    memory_broker: MemoryBroker,
    clock: FakeClock,
    make_reading: MakeReading,
    make_envelope: MakeEnvelope,
    absurd: dict[str, object],
) -> None:
    if isinstance(by := absurd.get("observe_time"), timedelta):
        absurd = {"observe_time": clock.now() + by}
    neighbours = [make_envelope(make_reading(values={"likes": value})) for value in (11, 12)]

    await _deliver(consumer, memory_broker, [neighbours[0], make_envelope(make_reading(**absurd)), neighbours[1]])

    assert await _rows(database, "SELECT value FROM observation ORDER BY value") == [(11,), (12,)]
    assert len(await _rows(database, "SELECT reason FROM dead_letter")) == 1


async def test_a_dead_letter_of_a_clock_that_ran_ahead_is_taken_in_once_its_time_has_come(
    consumer: Consumer,
    database: Database,
    memory_broker: MemoryBroker,
    clock: FakeClock,
    make_reading: MakeReading,
    make_envelope: MakeEnvelope,
) -> None:
    await _deliver(
        consumer, memory_broker, [make_envelope(make_reading(observe_time=clock.now() + timedelta(hours=2)))]
    )
    ((reason,),) = await _rows(database, "SELECT reason FROM dead_letter")
    assert re.search(r"time [-0-9T:]+Z is after [-0-9T:]+Z; handle", reason)
    await clock.advance(timedelta(hours=3))

    outcome = await dead_letters.redrive(database, subscriptions(clock, retention=RETENTION))

    assert outcome.failed == {}
    assert await _rows(database, "SELECT value FROM observation") == [(1,)]


@pytest.mark.parametrize("late", [RETENTION + timedelta(seconds=1), timedelta(days=365 * 56)])
async def test_readings_from_before_the_retention_are_left_out_and_stop_nothing(
    consumer: Consumer,
    database: Database,
    memory_broker: MemoryBroker,
    clock: FakeClock,
    make_reading: MakeReading,
    make_envelope: MakeEnvelope,
    late: timedelta,
) -> None:
    backlog = [make_envelope(make_reading(observe_time=clock.now() - late)) for _ in range(30)]

    await _deliver(consumer, memory_broker, [*backlog, make_envelope(make_reading(values={"likes": 7}))])

    assert consumer.healthy
    assert await _rows(database, "SELECT value FROM observation") == [(7,)]
    assert await _rows(database, "SELECT reason FROM dead_letter") == []


@pytest.mark.parametrize("absurd", [{"likes": -1}, {"likes": 10**15 + 1}, {"": 1}, {"x" * 65: 1}, {"a\x00": 1}])
async def test_an_absurd_number_discards_only_itself(
    consumer: Consumer,
    database: Database,
    memory_broker: MemoryBroker,
    make_reading: MakeReading,
    make_envelope: MakeEnvelope,
    absurd: dict[str, int],
) -> None:
    await _deliver(consumer, memory_broker, [make_envelope(make_reading(values={**absurd, "replies": 3}))])

    assert await _rows(database, "SELECT metric, value FROM observation") == [("replies", 3)]
    assert await _rows(database, "SELECT reason FROM dead_letter") == []


async def test_every_number_that_a_network_gives_is_kept(
    consumer: Consumer,
    database: Database,
    memory_broker: MemoryBroker,
    make_reading: MakeReading,
    make_envelope: MakeEnvelope,
) -> None:
    given = {"clicks": 1, "saves": 2, "reach": 3, "video_views": 4, "post_reactions_by_type_total.wow": 5}

    await _deliver(consumer, memory_broker, [make_envelope(make_reading(values=given))])

    assert dict(await _rows(database, "SELECT metric, value FROM latest")) == given


async def test_names_that_we_know_are_not_crowded_out_by_names_that_we_do_not(
    consumer: Consumer,
    database: Database,
    memory_broker: MemoryBroker,
    make_reading: MakeReading,
    make_envelope: MakeEnvelope,
) -> None:
    crowd = {f"a{n}": n for n in range(500)}

    await _deliver(consumer, memory_broker, [make_envelope(make_reading(values={**crowd, "views": 9}))])

    kept = dict(await _rows(database, "SELECT metric, value FROM latest"))
    assert (len(kept), kept["views"]) == (MAX_NUMBERS, 9)


async def test_a_late_observation_finds_its_day(
    consumer: Consumer,
    database: Database,
    memory_broker: MemoryBroker,
    clock: FakeClock,
    make_reading: MakeReading,
    make_envelope: MakeEnvelope,
) -> None:
    post, channel = show_id(POST, new_id()), show_id(CHANNEL, new_id())
    times = {9: clock.now(), 4: clock.now() - timedelta(days=40)}

    for value, time in times.items():
        message = make_reading(post_id=post, channel_id=channel, observe_time=time, values={"likes": value})
        await _deliver(consumer, memory_broker, [make_envelope(message)])

    assert await _rows(database, "SELECT value FROM observation ORDER BY observe_time") == [(4,), (9,)]
    assert await _rows(database, "SELECT value FROM latest") == [(9,)]


async def test_the_running_service_reads_the_publishers_stream(
    service: Service,
    memory_broker: MemoryBroker,
    make_reading: MakeReading,
    make_envelope: MakeEnvelope,
    workspace_id: UUID,
) -> None:
    await memory_broker.publish([make_envelope(make_reading(values={"likes": 5}))])

    found = await until(lambda: _rows(service.database, "SELECT workspace_id, value FROM latest"))

    assert found == [(workspace_id, 5)]
