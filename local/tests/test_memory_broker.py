"""The memory broker beyond the contract: a clock, outages, losses, sharing."""

from __future__ import annotations

from datetime import timedelta

import pytest
from regie_chassis.events.messaging import BrokerUnavailable, ConsumerSpec, Envelope, StreamSpec
from regie_local.testing.clock import FakeClock
from regie_local.testing.memory_broker import MemoryBroker

STREAM = StreamSpec("regie_test", ("regie.test.>",), duplicate_window=timedelta(minutes=20))
READER = ConsumerSpec("regie_test", "reader", ("regie.test.v1.done.*",), ack_wait=timedelta(seconds=30))
NOW = timedelta(0)


@pytest.fixture
async def memory(clock: FakeClock) -> MemoryBroker:
    broker = MemoryBroker(clock)
    await broker.ensure_stream(STREAM)
    return broker


def envelope(number: int) -> Envelope:
    return Envelope("regie.test.v1.done.ws1", f"id-{number}", b"%d" % number)


async def numbers(broker: MemoryBroker, spec: ConsumerSpec = READER) -> list[int]:
    return [int(one.envelope.payload) for one in await broker.fetch(spec, 100, NOW)]


async def test_an_unsettled_message_comes_back_after_its_ack_wait(memory: MemoryBroker, clock: FakeClock) -> None:
    await memory.publish([envelope(1)])
    assert await numbers(memory) == [1]
    assert await numbers(memory) == []
    await clock.advance(READER.ack_wait)
    (again,) = await memory.fetch(READER, 100, NOW)
    assert again.deliveries == 2


async def test_an_id_is_stored_again_after_the_duplicate_window(memory: MemoryBroker, clock: FakeClock) -> None:
    assert await memory.publish([envelope(1)]) == [1]
    await clock.advance(STREAM.duplicate_window - timedelta(seconds=1))
    assert await memory.publish([envelope(1)]) == [1]
    await clock.advance(timedelta(seconds=1))
    assert await memory.publish([envelope(1)]) == [2]


async def test_a_broker_that_is_down_answers_nothing_and_keeps_what_it_has(memory: MemoryBroker) -> None:
    await memory.publish([envelope(1)])
    memory.down = True
    for asking in (memory.publish([envelope(2)]), memory.fetch(READER, 1, NOW), memory.stream_state("regie_test")):
        with pytest.raises(BrokerUnavailable):
            await asking
    memory.down = False
    assert await numbers(memory) == [1]


async def test_a_lost_tail_is_gone_for_everyone_and_may_be_published_again(memory: MemoryBroker) -> None:
    await memory.publish([envelope(1), envelope(2), envelope(3)])
    assert await numbers(memory) == [1, 2, 3]
    memory.lose("regie_test", keep=1)
    assert (await memory.stream_state("regie_test")).last_seq == 1
    assert await memory.publish([envelope(2)]) == [2]
    assert await numbers(memory) == [2]


async def test_groups_of_different_names_each_get_everything(memory: MemoryBroker) -> None:
    await memory.publish([envelope(1)])
    second = ConsumerSpec("regie_test", "second", READER.subjects)
    assert await numbers(memory) == await numbers(memory, second) == [1]
    assert await memory.pending(READER) == 1
