"""Old deliveries are deleted with all that belongs to them, and nothing that may still count."""

from __future__ import annotations

from collections import deque
from datetime import timedelta

import pytest
from regie_chassis.boundary.ids import new_id
from regie_chassis.data.database import Database
from regie_local.testing.clock import FakeClock
from regie_networks.errors import Inconclusive
from regie_publisher.deliveries.retention import DeliveryRetention
from regie_publisher.testing.harness import NewHarness, PublisherHarness
from regie_publisher.testing.network import Play
from sqlalchemy import text

LIFE = timedelta(days=400)
DAY = timedelta(days=1)
BELONGINGS = ("delivery", "delivery_change", "attempt", "remote", "scheduled_collection", "engagement")


@pytest.fixture
def retention(database: Database, clock: FakeClock) -> DeliveryRetention:
    """The loop's work, two deliveries at a time."""
    return DeliveryRetention(database, clock, life=LIFE, batch=2)


async def purge(retention: DeliveryRetention) -> None:
    """Goes through all deliveries once."""
    while await retention.purge_some():
        pass


async def publish(harness: PublisherHarness, *texts: str) -> None:
    """Publishes a post for each text."""
    channel = await harness.channel()
    for words in texts:
        await harness.receive(harness.due(channel, texts=(words,)))
    await harness.work()


async def sizes(harness: PublisherHarness) -> dict[str, int]:
    """Returns the number of rows by table."""
    return {table: len(await harness.rows(table, order="1")) for table in BELONGINGS}


async def engage(harness: PublisherHarness) -> None:
    """Stores a reaction to every delivery's post."""
    async with harness.database.transaction() as session:
        await session.execute(
            text(
                "INSERT INTO engagement (channel_id, post_id, kind, actor_id)"
                " SELECT channel_id, post_id, 'like', 'ada' FROM delivery ON CONFLICT DO NOTHING"
            )
        )


async def test_an_old_delivery_goes_with_all_that_belongs_to_it(
    harness: PublisherHarness, clock: FakeClock, retention: DeliveryRetention
) -> None:
    await publish(harness, "one", "two", "three", "four", "five")
    await engage(harness)
    assert all((await sizes(harness)).values())
    await clock.advance(LIFE + DAY)
    await purge(retention)
    assert await sizes(harness) == dict.fromkeys(BELONGINGS, 0)


async def test_a_younger_delivery_stays_whole(
    harness: PublisherHarness, clock: FakeClock, retention: DeliveryRetention
) -> None:
    await publish(harness, "old")
    await clock.advance(LIFE - DAY)
    await publish(harness, "young")
    await engage(harness)
    await clock.advance(2 * DAY)
    await purge(retention)
    assert set((await sizes(harness)).values()) - {4} == {1}, "four changes, and one row of everything else"
    [row] = await harness.rows()
    assert row.compose_time > clock.now() - LIFE


async def test_a_delivery_that_a_person_settled_lately_is_not_old(
    harness: PublisherHarness, clock: FakeClock, retention: DeliveryRetention
) -> None:
    harness.connector.script = deque([Play.LOST_AFTER])
    harness.connector.finds = deque([Inconclusive("the index lags")] * 50)
    await publish(harness, "hello")
    await clock.advance(LIFE + DAY)
    await harness.resolve(published=True)
    await purge(retention)
    assert await harness.states() == ["published"]


async def test_an_open_delivery_stays_however_old_and_keeps_what_it_may_be_mistaken_for(
    harness: PublisherHarness, clock: FakeClock, retention: DeliveryRetention
) -> None:
    harness.connector.script = deque([Play.LOST_AFTER])
    await publish(harness, "hello", "hello")
    assert sorted(await harness.states()) == ["published", "unknown"]
    await clock.advance(LIFE + DAY)
    await purge(retention)
    assert sorted(await harness.states()) == ["published", "unknown"]
    await harness.reconciler.find_unknown()
    await clock.advance(LIFE + DAY)
    await purge(retention)
    assert await harness.states() == []


async def test_a_later_delivery_of_the_post_keeps_its_engagements(
    harness: PublisherHarness, clock: FakeClock, retention: DeliveryRetention
) -> None:
    channel, post_id = await harness.channel(), new_id()
    harness.connector.script = deque([Play.REFUSE])
    await harness.receive(harness.due(channel, post_id=post_id))
    await harness.work()
    await clock.advance(LIFE)
    await harness.receive(harness.due(channel, post_id=post_id, revision=2))
    await harness.work()
    await engage(harness)
    await clock.advance(DAY)
    await purge(retention)
    assert (await harness.states(), (await sizes(harness))["engagement"]) == (["published"], 1)
    await clock.advance(LIFE)
    await purge(retention)
    assert (await sizes(harness))["engagement"] == 0


async def test_a_cancellation_stays_as_long_as_a_delivery_of_its_post(
    harness: PublisherHarness, clock: FakeClock, retention: DeliveryRetention
) -> None:
    event = harness.due(await harness.channel())
    await harness.cancel(event)
    await clock.advance(LIFE - DAY)
    await harness.receive(event)  # as late as no stream would bring it
    await clock.advance(2 * DAY)
    await purge(retention)
    assert (await harness.states(), len(await harness.rows("cancellation", order="1"))) == (["cancelled"], 1)
    await clock.advance(LIFE)
    await purge(retention)
    assert (await harness.states(), await harness.rows("cancellation", order="1")) == ([], [])


async def test_two_replicas_delete_at_once_without_waiting_for_one_another(
    new_harness: NewHarness, clock: FakeClock, database: Database
) -> None:
    harness = new_harness()
    await publish(harness, "one", "two")
    await clock.advance(LIFE + DAY)
    retention = DeliveryRetention(database, clock, life=LIFE)
    async with database.transaction() as session:
        await session.execute(text("SELECT FROM delivery FOR UPDATE"))
        await purge(retention)
    assert len(await harness.rows()) == 2
    await purge(retention)
    assert await harness.rows() == []
