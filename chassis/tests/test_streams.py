"""The process that shapes the streams."""

from __future__ import annotations

import asyncio

from regie_chassis.events.messaging import NoSuchStream, stream_of
from regie_chassis.events.streams import LOOK_EVERY, keep_streams
from regie_chassis.process.loops import OUTAGE_PAUSE
from regie_local.testing.clock import FakeClock
from regie_local.testing.memory_broker import MemoryBroker
from regie_local.testing.waiting import until


async def test_streams_are_made_after_an_outage_and_again_when_they_are_lost(
    clock: FakeClock, stopping: asyncio.Event
) -> None:
    broker = MemoryBroker(clock)
    broker.down = True
    keeping = asyncio.create_task(keep_streams(broker, ["scheduler"], stopping, clock=clock))

    async def made() -> bool:
        await clock.advance(OUTAGE_PAUSE)
        try:
            await broker.stream_state(stream_of("scheduler"))
        except NoSuchStream:
            return False
        return True

    await asyncio.sleep(0)
    broker.down = False
    await until(made)
    broker._streams.clear()
    await clock.advance(LOOK_EVERY)
    await until(made)
    stopping.set()
    await keeping
