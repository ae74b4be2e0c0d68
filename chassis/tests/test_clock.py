from __future__ import annotations

import asyncio
from datetime import UTC, timedelta

from regie_chassis.process.clock import SystemClock
from regie_local.testing.clock import START, FakeClock

HOUR = timedelta(hours=1)
TURNS = 20  # of the event loop: enough for everything that is ready to run


async def turn() -> None:
    """Lets everything run that is ready to."""
    for _ in range(TURNS):
        await asyncio.sleep(0)


async def test_the_system_clock_is_aware_and_in_utc() -> None:
    assert SystemClock().now().tzinfo is UTC


async def test_the_system_clock_waits_for_the_event_or_the_time() -> None:
    event = asyncio.Event()
    assert await SystemClock().wait(event, timedelta(milliseconds=5)) is False
    assert await SystemClock().wait(event, timedelta(seconds=-1)) is False
    event.set()
    assert await SystemClock().wait(event, HOUR) is True


async def test_a_fake_clock_stands_still(clock: FakeClock) -> None:
    waiting = asyncio.create_task(clock.wait(asyncio.Event(), timedelta(microseconds=1)))
    await turn()
    assert not waiting.done()
    assert clock.now() == START
    waiting.cancel()


async def test_a_wait_ends_when_the_time_is_moved_to_its_end_and_not_before(clock: FakeClock) -> None:
    waiting = asyncio.create_task(clock.wait(asyncio.Event(), HOUR))
    await turn()
    await clock.advance(HOUR - timedelta(microseconds=1))
    await turn()
    assert not waiting.done()
    await clock.advance(timedelta(microseconds=1))
    async with asyncio.timeout(5):
        assert await waiting is False
    assert clock.now() == START + HOUR


async def test_a_wait_ends_with_its_event_while_the_clock_stands(clock: FakeClock) -> None:
    event = asyncio.Event()
    waiting = asyncio.create_task(clock.wait(event, HOUR))
    await turn()
    event.set()
    async with asyncio.timeout(5):
        assert await waiting is True


async def test_one_move_ends_every_wait_that_is_over(clock: FakeClock) -> None:
    waits = [asyncio.create_task(clock.wait(asyncio.Event(), HOUR * hours)) for hours in (1, 2, 3)]
    await turn()
    await clock.advance(HOUR * 2)
    await turn()
    assert [wait.done() for wait in waits] == [True, True, False]
    waits[2].cancel()


async def test_a_wait_for_no_time_returns_at_once(clock: FakeClock) -> None:
    event = asyncio.Event()
    assert await clock.wait(event, timedelta(0)) is False
    event.set()
    assert await clock.wait(event, timedelta(0)) is True
