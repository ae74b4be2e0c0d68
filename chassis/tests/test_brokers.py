"""The broker's contract, the same suite on NATS and in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import nats
import nats.errors
import pytest
from nats.aio.msg import Msg
from regie_chassis.events.messaging import (
    Broker,
    BrokerUnavailable,
    ConsumerSpec,
    Envelope,
    NoSuchStream,
    Received,
    StreamSpec,
    Unsendable,
)
from regie_chassis.events.nats_broker import NatsBroker, counts_of
from regie_chassis.events.nats_pull import BATCH_BYTES, MANY, PULL_BYTES, Pull
from regie_local.nats import EmbeddedNats
from regie_local.testing.memory_broker import MemoryBroker
from regie_local.testing.waiting import until

STREAM = StreamSpec("regie_test", ("regie.test.>",))
CONSUMER = ConsumerSpec("regie_test", "reader", ("regie.test.v1.done.*",), ack_wait=timedelta(seconds=30))
SHORT = timedelta(milliseconds=200)
LONG = timedelta(seconds=5)


@pytest.fixture(params=["nats", "memory"])
async def any_broker(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Broker]:
    if request.param == "memory":
        yield MemoryBroker()
        return
    server = EmbeddedNats(tmp_path)
    await asyncio.to_thread(server.start)
    broker = NatsBroker(server.url, name="suite")
    yield broker
    await broker.close()
    await asyncio.to_thread(server.stop)


def envelope(number: int, event: str = "done") -> Envelope:
    return Envelope(f"regie.test.v1.{event}.ws1", f"id-{number}", b"%d" % number, {"ce-type": "T"})


async def read(broker: Broker, count: int, spec: ConsumerSpec = CONSUMER) -> list[Received]:
    messages: list[Received] = []

    async def enough() -> bool:
        messages.extend(await broker.fetch(spec, 100, SHORT))
        return len(messages) >= count

    await until(enough, what=f"{count} messages")
    return messages


async def test_messages_arrive_in_order_with_their_headers_and_sequence(any_broker: Broker) -> None:
    await any_broker.ensure_stream(STREAM)
    sequences = await any_broker.publish([envelope(number) for number in range(250)])
    received = await read(any_broker, 250)
    assert [one.envelope.payload for one in received] == [b"%d" % number for number in range(250)]
    assert [one.stream_seq for one in received] == sequences == list(range(1, 251))
    assert received[0].envelope.headers["ce-type"] == "T"
    assert {one.deliveries for one in received} == {1}


async def test_a_repeated_id_is_stored_once_and_answers_the_first_sequence(any_broker: Broker) -> None:
    await any_broker.ensure_stream(STREAM)
    assert await any_broker.publish([envelope(1), envelope(1), envelope(2)]) == [1, 1, 2]
    assert (await any_broker.stream_state("regie_test")).last_seq == 2


async def test_a_lone_message_is_delivered_at_once(any_broker: Broker) -> None:
    await any_broker.ensure_stream(STREAM)
    await any_broker.ensure_consumer(CONSUMER)
    fetching = asyncio.create_task(any_broker.fetch(CONSUMER, 100, timedelta(seconds=60)))

    async def fetched() -> bool:
        if isinstance(any_broker, MemoryBroker) and fetching.done() and not fetching.result():
            return True  # the memory broker's patience is short by design
        return fetching.done()

    await any_broker.publish([envelope(1)])
    await until(fetched, timeout=1.5, what="the lone message, long before the batch is full")


async def test_an_acked_message_is_not_delivered_again_and_a_nakked_one_is(any_broker: Broker) -> None:
    await any_broker.ensure_stream(STREAM)
    await any_broker.publish([envelope(1), envelope(2)])
    first, second = await read(any_broker, 2)
    await any_broker.ack([first])
    await any_broker.nak([second], timedelta(0))
    (again,) = await read(any_broker, 1)
    assert (again.envelope.id, again.deliveries) == ("id-2", 2)
    await any_broker.ack([again])

    async def settled() -> bool:
        return await any_broker.pending(CONSUMER) == 0

    await until(settled)


async def test_a_nak_with_a_delay_holds_the_message_back(any_broker: Broker) -> None:
    await any_broker.ensure_stream(STREAM)
    await any_broker.publish([envelope(1), envelope(2)])
    first, second = await read(any_broker, 2)
    await any_broker.nak([first], timedelta(seconds=1))
    await any_broker.nak([second], timedelta(0))
    assert [one.envelope.id for one in await read(any_broker, 1)] == ["id-2"]
    assert [one.envelope.id for one in await read(any_broker, 1)] == ["id-1"]


async def test_a_consumer_sees_only_its_subjects(any_broker: Broker) -> None:
    await any_broker.ensure_stream(STREAM)
    await any_broker.publish([envelope(1, "begun"), envelope(2, "done")])
    assert [one.envelope.id for one in await read(any_broker, 1)] == ["id-2"]
    assert await any_broker.pending(CONSUMER) == 1


async def test_processes_of_one_group_share_its_messages(any_broker: Broker) -> None:
    await any_broker.ensure_stream(STREAM)
    await any_broker.publish([envelope(number) for number in range(20)])
    seen = await asyncio.gather(any_broker.fetch(CONSUMER, 10, LONG), any_broker.fetch(CONSUMER, 10, LONG))
    ids = [one.envelope.id for batch in seen for one in batch]
    assert len(ids) == len(set(ids))


async def test_a_stream_that_is_not_there_is_named(any_broker: Broker) -> None:
    with pytest.raises(NoSuchStream, match="regie_test"):
        await any_broker.fetch(CONSUMER, 1, SHORT)
    with pytest.raises(NoSuchStream, match="regie_test"):
        await any_broker.stream_state("regie_test")


async def test_a_message_for_no_stream_is_not_acknowledged(any_broker: Broker) -> None:
    await any_broker.ensure_stream(STREAM)
    assert await any_broker.publish([Envelope("regie.other.v1.done.ws1", "x", b"")]) == [None]


async def test_making_a_stream_again_changes_nothing(any_broker: Broker) -> None:
    await any_broker.ensure_stream(STREAM)
    before = await any_broker.stream_state("regie_test")
    await any_broker.publish([envelope(1)])
    await any_broker.ensure_stream(STREAM)
    assert (await any_broker.stream_state("regie_test")).create_time == before.create_time
    assert len(await read(any_broker, 1)) == 1


async def test_nats_is_read_on_after_it_was_killed_and_started_again(
    nats_server: EmbeddedNats, broker: NatsBroker
) -> None:
    await broker.ensure_stream(STREAM)
    await broker.publish([envelope(1)])
    await broker.ack(await read(broker, 1))
    child = nats_server.child
    assert child is not None
    await asyncio.to_thread(child.kill)
    with pytest.raises(BrokerUnavailable):
        await until(lambda: _down(broker), what="the outage")
    await asyncio.to_thread(nats_server.start)

    async def published() -> bool:
        try:
            return await broker.publish([envelope(2)]) != [None]
        except BrokerUnavailable:
            return False

    await until(published)
    assert "id-2" in [one.envelope.id for one in await _read_through_outages(broker)]


async def _down(broker: NatsBroker) -> bool:
    await broker.stream_state("regie_test")
    return False


async def _read_through_outages(broker: NatsBroker) -> list[Received]:
    async def fetched() -> list[Received]:
        try:
            return await broker.fetch(CONSUMER, 100, SHORT)
        except (BrokerUnavailable, NoSuchStream):
            return []

    return await until(fetched)


async def test_a_flood_of_one_workspace_lets_another_ones_messages_pass(
    nats_server: EmbeddedNats, broker: NatsBroker
) -> None:
    await broker.ensure_stream(STREAM)
    await broker.ensure_consumer(CONSUMER)
    flood = [envelope(number) for number in range(300)]
    passing = [Envelope("regie.test.v1.done.ws2", f"other-{number}", b"other", {}) for number in range(3)]
    await broker.publish([*flood, *passing])
    client = await nats.connect(nats_server.url)
    try:
        pull = await Pull.open(client, CONSUMER)
        taken = await pull.take(100, 5.0)

        async def all_arrived() -> bool:
            return len(taken) + pull.arrived == 303

        await until(all_arrived)
        taken += await pull.take(100, 5.0)
        assert [one.data for one in taken].count(b"other") == 3
        taken += await pull.drain()
    finally:
        await client.close()
    # Each workspace's own in their order, and none left out.
    assert [one.data for one in taken if one.data != b"other"] == [one.payload for one in flood]


async def test_large_messages_are_handed_on_in_small_batches(nats_server: EmbeddedNats, broker: NatsBroker) -> None:
    await broker.ensure_stream(STREAM)
    await broker.ensure_consumer(CONSUMER)
    large = [Envelope("regie.test.v1.done.ws1", f"large-{number}", bytes(100_000), {}) for number in range(20)]
    await broker.publish(large)
    client = await nats.connect(nats_server.url)
    try:
        pull = await Pull.open(client, CONSUMER)
        taken = len(await pull.take(100, 5.0))

        async def all_arrived() -> bool:
            return taken + pull.arrived == 20

        await until(all_arrived)
        assert len(await pull.take(100, 5.0)) <= BATCH_BYTES // 100_000 + 1
        assert len(await pull.drain()) > BATCH_BYTES // 100_000 + 1, "given back whole"
    finally:
        await client.close()


@pytest.mark.parametrize(("last_batch", "gathered"), [(MANY, 2), (MANY - 1, 1)])
async def test_in_a_burst_what_arrives_within_moments_is_taken_together(
    nats_server: EmbeddedNats, broker: NatsBroker, last_batch: int, gathered: int
) -> None:
    await broker.ensure_stream(STREAM)
    await broker.ensure_consumer(CONSUMER)
    await broker.publish([envelope(1)])
    client = await nats.connect(nats_server.url)
    try:
        pull = await Pull.open(client, CONSUMER)
        [message] = await pull.take(100, 5.0)
        for _ in range(last_batch):
            await pull._on_message(message)
        assert len(await pull.take(100, 5.0)) == last_batch
        await pull._on_message(message)
        taking = asyncio.create_task(pull.take(100, 5.0))
        await asyncio.sleep(0)  # the next batch is taken by now, or is gathered
        await pull._on_message(message)
        assert len(await taking) == gathered
    finally:
        await client.close()


async def test_a_lost_consumer_is_made_again(nats_server: EmbeddedNats, broker: NatsBroker) -> None:
    await broker.ensure_stream(STREAM)
    await broker.publish([envelope(1)])
    await broker.ack(await read(broker, 1))
    jetstream = await broker._jetstream()
    await jetstream.delete_consumer("regie_test", "reader")
    await broker.publish([envelope(2)])
    assert "id-2" in [one.envelope.id for one in await read(broker, 2)]


async def test_a_broker_that_is_not_there_is_reported_within_its_bound() -> None:
    broker = NatsBroker("nats://127.0.0.1:1", name="nobody")
    with pytest.raises(BrokerUnavailable, match=r"127\.0\.0\.1:1"):
        await broker.publish([envelope(1)])


async def test_a_message_too_large_with_its_headers_is_told_apart_and_its_neighbours_are_stored(
    any_broker: Broker,
) -> None:
    await any_broker.ensure_stream(STREAM)
    limit = 1024 * 1024
    large = [
        Envelope("regie.test.v1.done.ws1", f"large-{n}", b"x" * size, {"ce-type": "T"})
        for n, size in enumerate((limit + 1, limit - 10))
    ]
    acks = await any_broker.publish([envelope(1), large[0], envelope(2), large[1], envelope(3)])
    assert [acks[0], acks[2], acks[4]] == [1, 2, 3]
    assert isinstance(acks[1], Unsendable)
    assert isinstance(acks[3], Unsendable)


async def test_a_client_that_the_server_cut_off_is_replaced(broker: NatsBroker) -> None:
    await broker.ensure_stream(STREAM)
    await broker.ensure_consumer(CONSUMER)
    fetching = asyncio.create_task(broker.fetch(CONSUMER, 100, timedelta(seconds=30)))
    client = broker._client
    assert client is not None
    # Past all checks, as a header that somebody adds later might do: the payload alone is within the limit.
    headers = {"large": "x" * 1000}
    with suppress(nats.errors.Error):
        await client.publish("regie.test.v1.done.ws1", b"x" * (client.max_payload - 100), headers=headers)
        await client.flush()

    async def closed() -> bool:
        return client.is_closed

    await until(closed, what="the server's refusal")
    with pytest.raises(BrokerUnavailable):
        await fetching
    assert await broker.publish([envelope(1)]) == [1]
    (received,) = await read(broker, 1)
    assert received.envelope.id == "id-1"
    assert broker._client is not client


async def test_a_message_that_is_not_stored_costs_no_place_of_the_next_ones(broker: NatsBroker) -> None:
    await broker.ensure_stream(STREAM)
    nowhere = [Envelope("nobody.takes.this", f"n-{n}", b"", {}) for n in range(500)]
    for _ in range(10):
        assert await broker.publish(nowhere) == [None] * 500
    assert await broker.publish([envelope(1)]) == [1]

    async def nothing_waits() -> bool:
        assert broker._acks is not None
        return not broker._acks._waiting

    await until(nothing_waits)  # a wait that ran out gives its place back a moment later


async def test_a_batch_of_large_messages_is_bounded_in_bytes_and_loses_none(broker: NatsBroker) -> None:
    await broker.ensure_stream(STREAM)
    size, count = 900 * 1024, 40
    large = [Envelope("regie.test.v1.done.ws1", f"id-{n}", b"x" * size, {"ce-type": "T"}) for n in range(count)]
    for first in range(0, count, 10):
        assert None not in await broker.publish(large[first : first + 10])
    seen: list[str] = []

    async def all_read() -> bool:
        received = await broker.fetch(CONSUMER, 400, SHORT)
        assert len(received) * size <= 2 * PULL_BYTES  # one request that is there, and the one asked for ahead
        await broker.ack(received)
        seen.extend(one.envelope.id for one in received)
        return len(seen) >= count

    await until(all_read, what="all of the large messages")
    assert sorted(seen) == sorted(one.id for one in large)


@pytest.mark.parametrize(
    "reply",
    [
        "$JS.ACK.regie_scheduler.publisher.3.17.5.1700000000000000000.12",
        "$JS.ACK._.account.regie_scheduler.publisher.3.17.5.1700000000000000000.12",
        "$JS.ACK.hub.account.regie_scheduler.publisher.3.17.5.1700000000000000000.12.token",
    ],
)
def test_an_ack_subject_of_each_form_is_counted_as_nats_py_counts_it(reply: str) -> None:
    metadata = Msg.Metadata._from_reply(reply)  # what the public property calls
    assert counts_of(reply) == (metadata.num_delivered, metadata.sequence.stream) == (3, 17)
