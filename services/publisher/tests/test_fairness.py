"""One tenant's hanging server, on real PostgreSQL: the neighbours' posts leave as if it were not there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from functools import partial
from uuid import UUID

import pytest
from regie.publisher.events.v1.publisher_events_pb2 import DeliveryMissed
from regie_chassis.boundary.ids import new_id
from regie_chassis.data.database import Database
from regie_chassis.process.clock import SystemClock
from regie_chassis.process.loops import PeriodicLoop
from regie_local.testing.clock import FakeClock
from regie_local.testing.waiting import until
from regie_networks.draft import Account, Draft, Processing, Remote
from regie_networks.errors import OutcomeUnknown
from regie_networks.observation import Observation, Unread
from regie_publisher.channels.restrictions import MAX_MOVED, pause_channel
from regie_publisher.channels.sealing import Keyring, new_master_key
from regie_publisher.deliveries.claims import claim_pending, find_due, postpone_paused
from regie_publisher.deliveries.worker import BURST, BURST_GAP
from regie_publisher.fairness.due_work import fair_lookup
from regie_publisher.fairness.hosts import FIRST_WINDOW, Hosts
from regie_publisher.fairness.sharing import Choice, Limits
from regie_publisher.fairness.slots import Slots
from regie_publisher.testing.harness import NewHarness, PublisherHarness, open_harness
from regie_publisher.testing.network import FakeConnector
from sqlalchemy import text


class HangingConnector(FakeConnector):
    """Never answers accounts with a handle that begins with `evil`."""

    def __init__(self) -> None:
        super().__init__()
        self.hanging = 0
        self.release = asyncio.Event()

    async def hangs(self, calls: int) -> bool:
        return self.hanging >= calls

    async def shows(self, posts: int) -> bool:
        return len(self.posts) == posts

    async def publish(self, draft: Draft, index: int) -> Remote | Processing:
        if draft.account.handle.startswith("evil"):
            self.hanging += 1
            await self.release.wait()
            raise OutcomeUnknown("no answer")
        return await super().publish(draft, index)

    async def observe(self, account: Account, remotes: Sequence[Remote]) -> list[Observation | Unread]:
        if account.handle.startswith("evil"):
            self.hanging += 1
            await self.release.wait()
        return [Observation(remote.id, {"likes": 1}) for remote in remotes]


@pytest.fixture
def network() -> HangingConnector:
    return HangingConnector()


@pytest.fixture
async def both(
    database: Database, network: HangingConnector
) -> AsyncIterator[tuple[PublisherHarness, PublisherHarness]]:
    """The same process for two workspaces: one with a network that hangs, and its neighbour."""
    keyring = Keyring(new_master_key())
    evil = open_harness(
        database,
        network,
        SystemClock(),
        keyring=keyring,
        workspace_id=new_id(),
        name="one",
        in_flight=20,
        channel_in_flight=8,
        hosts=Hosts(max_window=20),
    )
    good = open_harness(database, network, SystemClock(), keyring=keyring, workspace_id=new_id(), name="one")
    yield evil, good
    network.release.set()
    await evil.worker.finish()


async def set_host(harness: PublisherHarness, channel: UUID, host: str) -> None:
    async with harness.database.transaction() as session:
        await session.execute(
            text("UPDATE channel SET server_url = :url WHERE id = :id"), {"id": channel, "url": f"https://{host}"}
        )


async def test_posts_to_a_server_that_hangs_keep_no_neighbour_waiting(
    both: tuple[PublisherHarness, PublisherHarness], network: HangingConnector, stopping: asyncio.Event
) -> None:
    evil, good = both
    channels = [await evil.channel(f"evil{number}") for number in range(5)]
    await evil.receive(*(evil.due(channels[number % 5]) for number in range(250)))
    running = asyncio.create_task(evil.worker.run(stopping))
    await until(partial(network.hangs, 2))
    mine = await good.channel("ada")
    await set_host(good, mine, "good.example")
    await good.receive(*(good.due(mine) for _ in range(30)))
    evil.worker.wake.set()
    await until(partial(network.shows, 30))
    assert network.hanging <= FIRST_WINDOW
    stopping.set()
    network.release.set()
    await running


async def test_a_host_that_never_answers_is_left_alone_and_the_timeline_says_so(
    both: tuple[PublisherHarness, PublisherHarness], network: HangingConnector
) -> None:
    evil, _ = both
    channels = [await evil.channel(f"evil{number}") for number in range(5)]
    await evil.receive(*(evil.due(channels[number % 5]) for number in range(40)))
    network.release.set()

    async def paused() -> bool:
        await evil.worker.claim()
        await evil.worker.finish()
        return any(row.cause == "host_silent" for row in await evil.rows("delivery_change"))

    await until(paused)
    assert network.hanging < 20
    [why, *_] = [row.detail for row in await evil.rows("delivery_change") if row.cause == "host_silent"]
    assert why.startswith("fake.example does not answer; no call is begun there before")
    waiting = [row for row in await evil.rows() if row.state == "pending"]
    assert len(waiting) == 40 - network.hanging
    assert all(row.attempt_number == 0 for row in waiting), "the pause comes before the mark"


async def test_a_burst_lasts_from_a_large_claim_until_nothing_is_due_or_claims_stay_small(
    new_harness: NewHarness, clock: FakeClock
) -> None:
    harness = new_harness(in_flight=500)
    assert harness.worker.calm.is_set()
    channels = [await harness.channel(f"ada{number}") for number in range(BURST)]
    await harness.receive(*(harness.due(one) for one in channels[1:]))
    assert await harness.worker.claim() == BURST - 1
    assert harness.worker.calm.is_set(), "too few for a burst"
    await harness.worker.finish()
    await harness.receive(*(harness.due(one) for one in channels))
    assert await harness.worker.claim() == BURST
    assert not harness.worker.calm.is_set()
    await harness.receive(harness.due(channels[0]))
    assert await harness.worker.claim() == 1
    assert not harness.worker.calm.is_set(), "a small claim may stand between two large ones"
    await harness.worker.finish()
    assert await harness.worker.claim() == 0
    assert harness.worker.calm.is_set()
    await harness.receive(*(harness.due(one) for one in channels))
    assert await harness.worker.claim() == BURST
    await clock.advance(BURST_GAP)
    await harness.receive(harness.due(channels[0]))
    assert await harness.worker.claim() == 1
    assert harness.worker.calm.is_set(), "slots turn over slowly: nobody's events wait for them"
    await harness.worker.finish()


async def test_a_backlog_hides_nobody_elses_post(both: tuple[PublisherHarness, PublisherHarness]) -> None:
    evil, good = both
    channel = await evil.channel("evil")
    for _ in range(4):
        await evil.receive(*(evil.due(channel) for _ in range(100)))
    await good.receive(good.due(await good.channel("ada")))
    async with evil.database.transaction() as session:
        due = await find_due(session, slots=Slots(Limits(4, 1), Hosts()), now=evil.clock.now())
    assert good.workspace_id in {one.workspace_id for one in due}


async def test_a_reading_that_hangs_keeps_no_other_account_waiting(
    both: tuple[PublisherHarness, PublisherHarness], network: HangingConnector, stopping: asyncio.Event
) -> None:
    evil, good = both
    network.release.set()
    quick = await good.channel("ada")
    await set_host(good, quick, "good.example")
    await good.receive(good.due(quick))
    await good.work()
    await evil.receive(evil.due(await evil.channel("evil")))
    async with evil.database.transaction() as session:  # as if it were published, too
        await session.execute(
            text(
                "INSERT INTO scheduled_collection (delivery_id, workspace_id, post_id, channel_id, network, remote_id,"
                " remote_url, publish_time, next_action_time, traceparent)"
                " SELECT id, workspace_id, post_id, channel_id, network, 'e', '', now(), now(), ''"
                " FROM delivery WHERE state = 'pending'"
            )
        )
        await session.execute(text("UPDATE scheduled_collection SET next_action_time = now()"))
    network.release.clear()
    network.hanging = 0
    collector = evil.collector
    loop = PeriodicLoop(
        "observations",
        collector.start_due,
        idle=timedelta(milliseconds=50),
        clock=evil.clock,
        wake=collector.slots.wake,
        begun=collector.slots,
    )
    running = asyncio.create_task(loop.run(stopping))

    async def measured() -> bool:
        return any(row.type.endswith("PostMetricsObserved") for row in await evil.rows("outbox"))

    await until(measured)
    assert network.hanging == 1
    stopping.set()
    network.release.set()
    await running


async def test_a_block_of_a_long_backlog_holds_and_moves_a_part_of_it(
    both: tuple[PublisherHarness, PublisherHarness],
) -> None:
    _, good = both
    channel = await good.channel("ada")
    for _ in range(6):
        await good.receive(*(good.due(channel) for _ in range(100)))
    await good.receive(good.due(await good.channel("bea")))
    now = good.clock.now()
    async with good.database.transaction() as session:
        await pause_channel(session, channel_id=channel, until=now + timedelta(minutes=5), now=now)
    moved = [row for row in await good.rows() if row.next_action_time > now + timedelta(minutes=4)]
    assert len(moved) == MAX_MOVED
    await good.work()
    assert [post.account for post in good.connector.posts] == ["bea"]


async def test_a_post_that_is_missed_says_that_its_host_was_silent(
    both: tuple[PublisherHarness, PublisherHarness],
) -> None:
    _, good = both
    await good.receive(good.due(await good.channel("ada")))
    async with good.database.transaction() as session:
        slots, now = Slots(Limits(4, 1), Hosts()), good.clock.now()
        due = await find_due(session, slots=slots, now=now)
        choice = Choice([], [], {due[0].id: now + timedelta(hours=1)})
        await postpone_paused(session, choice, due, now=now)
    [row] = await good.rows()
    assert row.next_action_time == row.miss_time
    async with good.database.transaction() as session:
        [late] = await find_due(session, slots=slots, now=row.miss_time)
        assert late.late
        assert await claim_pending(session, [late], worker="one", now=row.miss_time) == []
    [event] = await good.events(DeliveryMissed)
    assert "fake.example does not answer" in event.reason


async def test_a_lookup_reads_in_order_and_stops_at_its_limit(harness: PublisherHarness) -> None:
    lookup = fair_lookup(table="delivery", waiting="state = 'pending'")
    async with harness.database.transaction() as session:
        await session.execute(text("SET LOCAL enable_nestloop = off"))  # as the statistics of some moments have it
        parameters = Slots(Limits(50, 50), Hosts()).lookup_parameters(harness.clock.now())
        plan = "\n".join((await session.execute(text(f"EXPLAIN {lookup}"), parameters)).scalars())
    assert "Hash" not in plan, plan
    assert "Merge" not in plan, plan
