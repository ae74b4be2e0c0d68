from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
from regie.scheduler.events.v1.scheduler_events_pb2 import PostCancelled, PostCreated
from regie_chassis.boundary.ids import new_id
from regie_chassis.data.database import Database, is_outage
from regie_chassis.events import outbox
from regie_chassis.events.messaging import (
    Ack,
    Broker,
    BrokerUnavailable,
    ConsumerSpec,
    Envelope,
    NoSuchStream,
    decode,
    show_sequence,
    stream_spec,
)
from regie_chassis.events.nats_broker import NatsBroker
from regie_chassis.events.relay import GIVE_WAY, LIFE, Relay
from regie_chassis.events.turns import BATCH
from regie_chassis.process.clock import Clock, SystemClock
from regie_local.nats import EmbeddedNats
from regie_local.testing.clock import START, FakeClock
from regie_local.testing.memory_broker import MemoryBroker
from regie_local.testing.waiting import until
from sqlalchemy import text

STREAM = stream_spec("scheduler")
EVERYTHING = ConsumerSpec(STREAM.name, "everything", ("regie.scheduler.>",))
WORKSPACE = new_id()


@asynccontextmanager
async def relaying(
    database: Database, broker: Broker, clock: Clock | None = None, *, calm: asyncio.Event | None = None
) -> AsyncIterator[Relay]:
    """Runs a relay for the time of the block."""
    relay = Relay(database, broker, STREAM, clock or SystemClock(), calm=calm)
    stopping = asyncio.Event()
    task = asyncio.create_task(relay.run(stopping))
    yield relay
    stopping.set()
    database.staged.set()
    async with asyncio.timeout(20):
        await task


async def stage_many(database: Database, count: int, *, aggregate: str = "", first: int = 0) -> None:
    async with database.transaction() as session:
        for number in range(first, first + count):
            message = PostCreated(post_id=aggregate or f"p{number}", title=str(number))
            outbox.stage(session, message, workspace_id=WORKSPACE, time=START)


async def stored(broker: Broker, count: int, spec: ConsumerSpec = EVERYTHING) -> list[str]:
    """Reads until `count` messages were seen and returns their titles in order."""
    titles: list[str] = []

    async def enough() -> bool:
        try:
            received = await broker.fetch(spec, 500, timedelta(milliseconds=200))
        except NoSuchStream:  # the relay has not made it yet
            return False
        await broker.ack(received)
        titles.extend(PostCreated.FromString(one.envelope.payload).title for one in received)
        return len(titles) >= count

    await until(enough, what=f"{count} events in the stream")
    return titles


async def quiet(database: Database) -> None:
    async def nothing_waits() -> bool:
        return await outbox.unsent_count(database) == 0

    await until(nothing_waits, what="an empty outbox")


async def test_events_of_a_committed_transaction_reach_the_stream_in_order(
    database: Database, broker: NatsBroker
) -> None:
    async with relaying(database, broker):
        await stage_many(database, 700, aggregate="one")
        assert await stored(broker, 700) == [str(number) for number in range(700)]


async def test_events_of_a_rolled_back_transaction_never_leave(database: Database, broker: NatsBroker) -> None:
    async def fail_after_staging() -> None:
        async with database.transaction() as session:
            outbox.stage(session, PostCreated(title="no"), workspace_id=WORKSPACE, time=START)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail_after_staging()
    async with relaying(database, broker):
        await stage_many(database, 1, first=7)
        assert await stored(broker, 1) == ["7"]


async def test_an_event_carries_cloudevents_headers_and_its_derived_subject(database: Database) -> None:
    broker = MemoryBroker()
    async with database.transaction() as session:
        outbox.stage(session, PostCancelled(post_id="p"), workspace_id=WORKSPACE, time=START)
    async with relaying(database, broker):
        await quiet(database)
    (received,) = await broker.fetch(EVERYTHING, 10, timedelta(seconds=1))
    headers = received.envelope.headers
    assert received.envelope.subject.startswith("regie.scheduler.v1.post_cancelled.ws_")
    assert headers["ce-type"] == "regie.scheduler.events.v1.PostCancelled"
    assert headers["ce-source"] == "/regie/scheduler"
    assert headers["ce-id"] == received.envelope.id
    assert headers["ce-time"] == START.isoformat().replace("+00:00", "Z")
    assert headers["ce-workspaceid"].startswith("ws_")


async def test_the_sequences_of_events_about_one_thing_are_in_the_order_of_their_staging(database: Database) -> None:
    broker = MemoryBroker()
    for first in range(0, 12, 3):
        await stage_many(database, 3, aggregate="one", first=first)
    async with relaying(database, broker):
        await quiet(database)
    events = [decode(one.envelope, PostCreated, "") for one in await broker.fetch(EVERYTHING, 20, timedelta(seconds=1))]
    in_order = sorted(events, key=lambda event: show_sequence(event.sequence))
    assert [event.message.title for event in in_order] == [str(number) for number in range(12)]
    assert len({event.sequence for event in events} - {0}) == 12


async def test_several_relays_send_every_event_once(database: Database, broker: NatsBroker) -> None:
    async with relaying(database, broker), relaying(database, broker), relaying(database, broker):
        for number in range(0, 300, 10):
            await stage_many(database, 10, first=number)
        assert sorted(map(int, await stored(broker, 300))) == list(range(300))
        await quiet(database)
    assert (await broker.stream_state(STREAM.name)).last_seq == 300


async def test_events_wait_for_nats_to_come_back(
    database: Database, nats_server: EmbeddedNats, broker: NatsBroker
) -> None:
    async with relaying(database, broker):
        await stage_many(database, 1)
        await stored(broker, 1)
        await asyncio.to_thread(nats_server.stop)
        await stage_many(database, 5, first=1)
        await asyncio.to_thread(nats_server.start)
        await quiet(database)
        assert (await broker.stream_state(STREAM.name)).last_seq == 6


async def test_the_tail_is_sent_again_when_nats_comes_back_without_it(
    database: Database, nats_server: EmbeddedNats, broker: NatsBroker
) -> None:
    async with relaying(database, broker):
        await stage_many(database, 20)
        await quiet(database)
        await asyncio.to_thread(nats_server.stop)
        shutil.rmtree(nats_server.folder / "jetstream")
        await asyncio.to_thread(nats_server.start)

        async def restored() -> bool:
            await stage_many(database, 1, first=99)
            await quiet(database)
            return (await broker.stream_state(STREAM.name)).last_seq >= 21

        await until(restored, timeout=30, what="the lost events")
        titles = await stored(broker, 21, ConsumerSpec(STREAM.name, "after", ("regie.scheduler.>",)))
    assert {str(number) for number in range(20)} <= set(titles)


async def test_a_tail_lost_while_no_relay_ran_is_found_at_the_next_start(database: Database) -> None:
    broker = MemoryBroker()
    async with relaying(database, broker):
        await stage_many(database, 10)
        await quiet(database)
    broker.lose(STREAM.name, keep=4)
    async with relaying(database, broker):
        titles = await stored(broker, 10)
    assert sorted(map(int, titles)) == list(range(10))


async def test_events_that_the_stream_has_acknowledged_are_kept_for_a_while_and_then_forgotten(
    database: Database, clock: FakeClock
) -> None:
    relay = Relay(database, MemoryBroker(clock), STREAM, clock)
    await relay._broker.ensure_stream(STREAM)
    await stage_many(database, 3)
    assert await relay.relay_once() == 3
    await clock.advance(LIFE - timedelta(seconds=1))
    await relay.relay_once()
    assert await _count(database) == 3
    await clock.advance(timedelta(minutes=2))
    await relay.relay_once()
    assert await _count(database) == 0


async def test_a_tail_that_is_lost_in_a_long_outage_is_still_there_to_be_replayed(
    database: Database, clock: FakeClock
) -> None:
    broker = MemoryBroker(clock)
    relay = Relay(database, broker, STREAM, clock)
    await broker.ensure_stream(STREAM)
    await stage_many(database, 3)
    assert await relay.relay_once() == 3
    broker.lose(STREAM.name, keep=0)
    broker.down = True
    await clock.advance(LIFE * 2)
    with pytest.raises(BrokerUnavailable):
        await relay.relay_once()
    broker.down = False
    assert await relay.relay_once() == 3


async def _count(database: Database) -> int:
    async with database.reading() as session:
        return int((await session.execute(text("SELECT count(*) FROM outbox"))).scalar_one())


class RefusingBroker(MemoryBroker):
    """Does not acknowledge the first message of one aggregate."""

    def __init__(self, refused: str) -> None:
        super().__init__()
        self.refused = refused

    async def publish(self, envelopes: Sequence[Envelope]) -> list[Ack]:
        answers: list[Ack] = []
        for envelope in envelopes:
            if PostCreated.FromString(envelope.payload).title == self.refused:
                self.refused = ""
                answers.append(None)
            else:
                answers.extend(await super().publish([envelope]))
        return answers


async def test_an_event_that_was_not_acknowledged_holds_back_its_followers_only(database: Database) -> None:
    broker = RefusingBroker("1")
    async with relaying(database, broker):
        async with database.transaction() as session:
            for number, aggregate in enumerate(["a", "b", "b", "a"]):
                message = PostCreated(post_id=aggregate, title=str(number))
                outbox.stage(session, message, workspace_id=WORKSPACE, time=START)
        titles = await stored(broker, 4)
    assert titles == ["0", "3", "1", "2"]


async def test_the_relay_survives_the_loss_of_its_connections(database: Database, broker: NatsBroker) -> None:
    async with relaying(database, broker):
        await stage_many(database, 1)
        await stored(broker, 1)
        async with database.reading() as session:
            await session.execute(
                text(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
            )

        async def said() -> bool:
            try:
                await stage_many(database, 1, first=1)  # may be given one of the connections that were cut
            except Exception as error:
                if not is_outage(error):
                    raise
                return False
            return True

        await until(said, what="a connection of the pool")
        assert await stored(broker, 1) == ["1"]


async def test_an_event_that_nats_could_not_carry_is_refused_and_stages_nothing(database: Database) -> None:
    async def stage_both() -> None:
        async with database.transaction() as session:
            for title in ("a", "x" * outbox.MAX_EVENT):
                message = PostCreated(title=title)
                outbox.stage(session, message, workspace_id=WORKSPACE, time=START)

    with pytest.raises(outbox.EventTooLarge, match="PostCreated would have"):
        await stage_both()
    assert await _count(database) == 0


async def test_an_event_that_must_be_recorded_is_staged_with_its_texts_cut_short(database: Database) -> None:
    message = PostCreated(post_id="p", title="x" * outbox.MAX_EVENT)
    assert not outbox.fits(message)
    short = outbox.fitting(message)
    assert isinstance(short, PostCreated)
    assert (short.post_id, len(short.title)) == ("p", outbox.SHORT_TEXT)
    small = PostCreated(post_id="p")
    assert outbox.fitting(small) is small


async def insert_raw(database: Database, payload: bytes) -> None:
    """Puts a row into the outbox past `stage`, as an older version may have done."""
    async with database.transaction() as session:
        await session.execute(
            text(
                "INSERT INTO outbox (event_id, aggregate_id, workspace_id, type, payload, traceparent, event_time)"
                " VALUES (:event_id, 'large', :workspace_id, :type, :payload, '', :time)"
            ),
            {
                "event_id": new_id(),
                "workspace_id": WORKSPACE,
                "type": PostCreated.DESCRIPTOR.full_name,
                "payload": payload,
                "time": START,
            },
        )


@pytest.mark.parametrize("size", [1024 * 1024 + 1, 1024 * 1024 - 100], ids=["payload", "payload and headers"])
async def test_a_row_that_no_server_takes_is_set_aside_and_its_neighbours_go_on(
    database: Database, broker: NatsBroker, size: int
) -> None:
    await stage_many(database, 2)
    await insert_raw(database, b"x" * size)
    await stage_many(database, 2, first=2)
    async with relaying(database, broker):
        assert sorted(await stored(broker, 4)) == ["0", "1", "2", "3"]
        await quiet(database)
        async with database.reading() as session:
            (dead,) = (
                await session.execute(text("SELECT id, dead_reason FROM outbox WHERE dead_time IS NOT NULL"))
            ).all()
        assert "with its headers" in dead.dead_reason
        assert await outbox.redrive(database, row=dead.id) == [dead.id]
        assert await outbox.unsent_count(database) in (0, 1)
        await quiet(database)
    assert (await broker.stream_state(STREAM.name)).last_seq == 4


class WatchedClock(FakeClock):
    """Keeps the events that were waited for, and for how long."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[tuple[asyncio.Event, timedelta]] = []

    async def wait(self, event: asyncio.Event, timeout: timedelta) -> bool:
        self.waits.append((event, timeout))
        return await super().wait(event, timeout)


async def test_in_a_burst_of_due_work_events_wait_for_its_end_or_for_a_moment(database: Database) -> None:
    clock, calm = WatchedClock(), asyncio.Event()
    await stage_many(database, BATCH + 1)
    async with relaying(database, MemoryBroker(clock), clock, calm=calm):

        async def gives_way() -> bool:
            return (calm, GIVE_WAY) in clock.waits

        await until(gives_way)
        assert await outbox.unsent_count(database) == BATCH + 1
        await clock.advance(GIVE_WAY)
        await quiet(database)  # without another wait, however many batches it is
        await stage_many(database, 1, first=BATCH + 1)
        calm.set()
        await quiet(database)
        calm.clear()
        await stage_many(database, 1, first=BATCH + 2)
    assert await outbox.unsent_count(database) == 0, "a relay that stops gives way to nothing"


async def test_a_relay_that_nats_answers_and_that_gets_nowhere_is_not_healthy(
    database: Database, clock: FakeClock
) -> None:
    class Deaf(MemoryBroker):
        async def publish(self, envelopes: Sequence[Envelope]) -> list[Ack]:
            return [None] * len(envelopes)

    broker = Deaf(clock)
    await stage_many(database, 1)
    async with relaying(database, broker, clock) as relay:

        async def unhealthy() -> bool:
            await clock.advance(timedelta(seconds=2))
            return not relay.healthy

        await until(unhealthy, what="a relay that is stuck")


async def test_an_outage_of_nats_does_not_make_the_relay_unhealthy(database: Database, clock: FakeClock) -> None:
    broker = MemoryBroker(clock)
    await stage_many(database, 1)
    async with relaying(database, broker, clock) as relay:
        await quiet(database)
        broker.down = True
        await stage_many(database, 1, first=1)
        looks = 0

        async def long_after() -> bool:
            nonlocal looks
            looks += 1
            await clock.advance(timedelta(seconds=2))
            assert relay.healthy
            return looks > 100

        await until(long_after, what="a long outage")
        broker.down = False

        async def sent() -> bool:
            await clock.advance(timedelta(seconds=2))
            return await outbox.unsent_count(database) == 0

        await until(sent, what="the event after the outage")
