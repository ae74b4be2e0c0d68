"""Loops on a clock that the test moves, and their way through outages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
from regie_chassis.events.messaging import BrokerUnavailable
from regie_chassis.process.loops import OUTAGE_PAUSE, Outages, PeriodicLoop, Wakeup, tolerate_outage, try_through_outage
from regie_local.testing.clock import FakeClock
from regie_local.testing.waiting import until
from structlog.testing import capture_logs

SECOND = timedelta(seconds=1)
HOUR = timedelta(hours=1)


class Act:
    """Counts its calls; each takes the next of `answers`, an error is raised, and at their end nothing is found."""

    def __init__(self, *answers: object) -> None:
        self.answers = list(answers)
        self.calls = 0

    async def __call__(self) -> object:
        self.calls += 1
        answer = self.answers.pop(0) if self.answers else None
        if isinstance(answer, Exception):
            raise answer
        return answer

    def made(self, count: int) -> Callable[[], Awaitable[bool]]:
        async def look() -> bool:
            assert self.calls <= count
            return self.calls == count

        return look


@asynccontextmanager
async def running(loop: PeriodicLoop, stopping: asyncio.Event) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(loop.run(stopping))
    try:
        yield task
    finally:
        stopping.set()
        async with asyncio.timeout(10):
            await asyncio.gather(task, return_exceptions=True)


async def test_a_loop_acts_at_once_while_it_finds_work_and_then_rests(
    clock: FakeClock, stopping: asyncio.Event
) -> None:
    act = Act(3, True)
    async with running(PeriodicLoop("work", act, idle=HOUR, clock=clock), stopping):
        await until(act.made(3))
        await clock.advance(HOUR)
        await until(act.made(4))


async def test_a_loop_that_finds_work_keeps_its_pace(clock: FakeClock, stopping: asyncio.Event) -> None:
    act, wake = Act(1, 1), Wakeup()
    async with running(PeriodicLoop("work", act, idle=HOUR, clock=clock, wake=wake, pace=SECOND), stopping):
        await until(act.made(1))
        wake.set()
        await until(act.made(1))
        await clock.advance(SECOND)
        await until(act.made(2))


async def test_a_wakeup_during_the_call_is_not_lost(clock: FakeClock, stopping: asyncio.Event) -> None:
    wake = Wakeup()
    calls = 0

    async def act() -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            wake.set()

    async def twice() -> bool:
        return calls == 2

    async with running(PeriodicLoop("work", act, idle=HOUR, clock=clock, wake=wake), stopping):
        await until(twice)


async def test_a_loop_asks_how_long_it_may_rest(clock: FakeClock, stopping: asyncio.Event) -> None:
    act = Act()

    async def idle() -> timedelta:
        return SECOND if act.calls == 1 else HOUR

    async with running(PeriodicLoop("work", act, idle=idle, clock=clock), stopping):
        await until(act.made(1))
        await clock.advance(SECOND)
        await until(act.made(2))


async def test_stopping_ends_the_rest_and_finishes_what_was_begun(clock: FakeClock, stopping: asyncio.Event) -> None:
    order: list[str] = []

    class Begun:
        async def finish(self) -> None:
            order.append("finish")

        def cancel(self) -> None:
            order.append("cancel")

    act = Act()
    async with running(PeriodicLoop("work", act, idle=HOUR, clock=clock, begun=Begun()), stopping) as task:
        await until(act.made(1))
        stopping.set()
        await asyncio.wait_for(task, 10)
    assert order == ["finish", "cancel"]


@pytest.mark.parametrize("error", [ConnectionResetError(), BrokerUnavailable("away")])
async def test_a_loop_waits_an_outage_out(clock: FakeClock, stopping: asyncio.Event, error: Exception) -> None:
    act = Act(error)
    async with running(PeriodicLoop("work", act, idle=HOUR, clock=clock), stopping):
        await until(act.made(1))
        await clock.advance(OUTAGE_PAUSE)
        await until(act.made(2))


async def test_what_is_no_outage_ends_the_loop(clock: FakeClock, stopping: asyncio.Event) -> None:
    with pytest.raises(ZeroDivisionError):
        await PeriodicLoop("work", Act(ZeroDivisionError()), idle=HOUR, clock=clock).run(stopping)


async def test_each_outage_is_logged_once(clock: FakeClock) -> None:
    outages, woken = Outages("work", clock), asyncio.Event()
    woken.set()
    with capture_logs() as logs:
        for pause in (SECOND, SECOND, HOUR):
            async with outages.waited_out(woken):
                raise ConnectionResetError
            await clock.advance(pause)
        async with outages.waited_out(woken):
            raise BrokerUnavailable("away")
    assert [(one["event"], one["loop"]) for one in logs] == [
        ("loop.waits_for_database", "work"),
        ("loop.waits_for_broker", "work"),
    ]


async def test_a_write_is_tried_again_through_an_outage() -> None:
    act = Act(ConnectionResetError(), "written")
    assert await try_through_outage(act, within=HOUR, event="write.waits") == "written"


async def test_a_write_that_cannot_succeed_in_time_raises_its_last_error() -> None:
    act = Act(ConnectionResetError(), "written")
    with pytest.raises(ConnectionResetError):
        await try_through_outage(act, within=timedelta(0), event="write.waits")
    assert act.calls == 1


async def test_a_tolerated_outage_is_logged_and_other_errors_rise() -> None:
    with capture_logs() as logs, tolerate_outage("write.left", count=2):
        raise ConnectionResetError
    assert [(one["event"], one["count"], one["log_level"]) for one in logs] == [("write.left", 2, "warning")]
    with pytest.raises(ZeroDivisionError), tolerate_outage("write.left"):
        raise ZeroDivisionError
