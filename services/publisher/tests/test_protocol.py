"""The protocol against random misfortune: in every course of the network and the workers, no post is visible twice.

Calls with a lost response may land later, at any time within the network's quiet time.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from regie.publisher.events.v1.publisher_events_pb2 import PostPublished
from regie_chassis.data.database import Database
from regie_local.testing.clock import FakeClock
from regie_networks.absence import QUIET, Repeat
from regie_networks.draft import Draft
from regie_networks.errors import Inconclusive
from regie_publisher.deliveries.delivery import MARGIN
from regie_publisher.testing.harness import NewHarness, PublisherHarness
from regie_publisher.testing.network import Play
from sqlalchemy.ext.asyncio import AsyncSession

END = {"published", "failed", "missed", "cancelled"}
PLAYS = st.lists(st.sampled_from(list(Play)), max_size=12)
LATENESSES = st.lists(st.integers(1, int((QUIET - MARGIN).total_seconds())), max_size=6)
NAMES = ["work", "work both", "sweep", "find", "check", "advance", "lease", "die", "mark and die", "cancel", "blind"]
STEPS = st.lists(st.sampled_from(NAMES), max_size=25)


class Story:
    """Two replicas, one post of one to three parts, and random misfortune."""

    def __init__(self, first: PublisherHarness, second: PublisherHarness, clock: FakeClock) -> None:
        self.harnesses = (first, second)
        self.clock = clock
        self.cancelled = False

    async def begin(self, script: list[Play], parts: int, repeat: Repeat, latenesses: list[int]) -> None:
        harness = self.harnesses[0]
        harness.connector.script = deque(script)
        harness.connector.repeat = repeat
        harness.connector.lateness = deque(timedelta(seconds=seconds) for seconds in latenesses)
        self.event = harness.due(await harness.channel(), texts=("one", "two", "three")[:parts])
        await harness.receive(self.event, self.event)

    async def step(self, name: str) -> None:
        first, second = self.harnesses
        acts: dict[str, Callable[[], Awaitable[object]]] = {
            "work": first.work,
            "work both": lambda: asyncio.gather(first.work(), second.work()),
            "sweep": lambda: asyncio.gather(first.rescue(), second.rescue()),
            "find": lambda: asyncio.gather(first.reconciler.find_unknown(), second.reconciler.find_unknown()),
            "check": lambda: asyncio.gather(first.reconciler.check_processing(), second.reconciler.check_processing()),
            "advance": lambda: self.clock.advance(timedelta(seconds=7)),
            "lease": lambda: self.clock.advance(timedelta(seconds=31)),
            "blind": self._blind,
            "cancel": lambda: first.cancel(self.event),
            "die": lambda: self._die(marked=False),
            "mark and die": lambda: self._die(marked=True),
        }
        await acts[name]()

    async def _blind(self) -> None:
        self.harnesses[0].connector.finds.append(Inconclusive("the index lags"))

    async def _die(self, *, marked: bool) -> None:
        first, _ = self.harnesses
        async with first.database.transaction() as session:
            held = await first.claim_only(session)
        if marked and held:
            await first.writer.mark(held[0])
            await first.publish_only_quietly(held[0])

    async def end(self) -> str:
        for round_ in range(60):
            for name in ("sweep", "find", "check", "work", "lease"):
                await self.step(name)
            await self.clock.advance(timedelta(minutes=10) if round_ > 30 else timedelta(0))
            [row] = await self.harnesses[0].rows()
            if row.state in END or row.needs_person:
                break
        await self.clock.advance(QUIET)
        self.harnesses[0].connector.land()
        return str(row.state)


@pytest.mark.parametrize("round_", range(4))
async def test_a_post_is_visible_once_or_its_end_is_explicit(
    new_harness: NewHarness, clock: FakeClock, round_: int
) -> None:
    first, second = new_harness(), new_harness()
    loop = asyncio.get_running_loop()

    @settings(
        max_examples=12,
        deadline=None,
        derandomize=False,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(
        script=PLAYS,
        steps=STEPS,
        parts=st.integers(1, 3),
        repeat=st.sampled_from(list(Repeat)),
        latenesses=LATENESSES,
    )
    def play(script: list[Play], steps: list[str], parts: int, repeat: Repeat, latenesses: list[int]) -> None:
        story = one_story(script, steps, parts, repeat, latenesses)
        asyncio.run_coroutine_threadsafe(story, loop).result(60)

    async def one_story(
        script: list[Play], steps: list[str], parts: int, repeat: Repeat, latenesses: list[int]
    ) -> None:
        await first.forget()
        story = Story(first, second, clock)
        await story.begin(script, parts, repeat, latenesses)
        for name in steps:
            await story.step(name)
        state = await story.end()
        visible = Counter(post.key for post in first.connector.posts)
        assert all(count == 1 for count in visible.values()), f"visible twice: {visible}"
        if state == "published":
            assert [post.text for post in first.connector.posts] == ["one", "two", "three"][:parts]
        [row] = await first.rows()
        if state in END:
            assert len(first.connector.posts) == len(row.remote_ids), f"there, but called {state}"
        assert state in END or row.needs_person

    await asyncio.to_thread(play)


class FlakyDatabase(Database):
    """A database that can be cut off."""

    down = False

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.refused = asyncio.Event()
        """Set once somebody has met the outage."""

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncSession]:
        self.answer()
        async with super().transaction() as session:
            yield session

    @asynccontextmanager
    async def statement(self) -> AsyncIterator[AsyncSession]:
        self.answer()
        async with super().statement() as session:
            yield session

    def answer(self) -> None:
        """Raises while the database is down."""
        if self.down:
            self.refused.set()
            raise ConnectionRefusedError("the database is down in this test")


async def test_a_database_that_is_gone_when_the_answer_comes_costs_no_second_post(
    new_harness: NewHarness, database: Database, clock: FakeClock
) -> None:
    flaky = FlakyDatabase(database.url)
    cut_off, living = new_harness(on=flaky), new_harness()
    await cut_off.receive(cut_off.due(await cut_off.channel()))
    response_arrived = asyncio.Event()

    async def outage(_draft: Draft, _index: int) -> None:
        flaky.down = True
        response_arrived.set()

    cut_off.connector.after_publish = outage
    await cut_off.worker.claim()
    await response_arrived.wait()
    await clock.advance(timedelta(seconds=31))
    await living.rescue()
    assert await living.states() == ["unknown"]
    await clock.advance(timedelta(seconds=31))
    await living.reconciler.find_unknown()
    assert await living.states() == ["published"]
    flaky.down = False
    await cut_off.worker.finish()
    assert await living.states() == ["published"]
    assert len(living.connector.published()) == 1
    assert len(await living.events(PostPublished)) == 1
    await flaky.close()


async def test_an_answer_waits_out_a_short_outage_of_the_database(new_harness: NewHarness, database: Database) -> None:
    flaky = FlakyDatabase(database.url)
    harness = new_harness(on=flaky)
    await harness.receive(harness.due(await harness.channel()))
    response_arrived = asyncio.Event()

    async def outage(_draft: Draft, _index: int) -> None:
        flaky.down = True
        response_arrived.set()

    harness.connector.after_publish = outage
    await harness.worker.claim()
    await response_arrived.wait()
    await flaky.refused.wait()
    flaky.down = False
    await harness.worker.finish()
    assert await harness.states() == ["published"]
    await flaky.close()


async def test_an_outage_at_the_mark_sends_nothing_and_costs_no_lease(
    new_harness: NewHarness, database: Database
) -> None:
    flaky = FlakyDatabase(database.url)
    harness = new_harness(on=flaky)
    await harness.receive(harness.due(await harness.channel()))
    async with flaky.transaction() as session:
        [held] = await harness.claim_only(session)
    await harness.accounts.open([held.channel_id])
    flaky.down = True
    attempt = asyncio.create_task(harness.attempts.make(held))
    await flaky.refused.wait()
    flaky.down = False
    await attempt
    assert harness.connector.calls == []
    assert await harness.states() == ["pending"]
    await harness.work()
    assert len(harness.connector.posts) == 1
    await flaky.close()
