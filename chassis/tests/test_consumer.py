from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from regie.ids.v1.prefixes import WORKSPACE as WORKSPACE_ID
from regie.scheduler.events.v1.scheduler_events_pb2 import PostCancelled, PostCreated
from regie_chassis.boundary.errors import Invalid, NotFound, RegieError, TooLarge, Unprocessable
from regie_chassis.boundary.ids import new_id, show_id
from regie_chassis.data.database import Database
from regie_chassis.events import dead_letters
from regie_chassis.events.consumer import Consumer, Handler, consumers
from regie_chassis.events.messaging import Broker, Envelope, Event, Received, headers_of, stream_spec, subject_of
from regie_chassis.events.nats_broker import NatsBroker
from regie_chassis.process.clock import SystemClock
from regie_chassis.process.retry import RetryPolicy
from regie_local.testing.clock import START
from regie_local.testing.memory_broker import MemoryBroker
from regie_local.testing.waiting import settle, until
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

WORKSPACE = new_id()
AT_ONCE = RetryPolicy(max_attempts=3, base=timedelta(milliseconds=1))


async def note(session: AsyncSession, events: Sequence[Event[PostCreated]]) -> None:
    """Leaves one row for each event; refuses to handle the post `poison`."""
    for event in events:
        if event.message.post_id == "poison":
            raise ValueError("cannot be handled")
        await session.execute(text("INSERT INTO effect VALUES (:post)"), {"post": event.message.post_id})


def envelope(post: str, workspace: UUID = WORKSPACE) -> Envelope:
    name = PostCreated.DESCRIPTOR.full_name
    event_id = new_id()
    headers = headers_of(name, event_id=event_id, workspace_id=workspace, time=START, traceparent="")
    return Envelope(subject_of(name, workspace), str(event_id), PostCreated(post_id=post).SerializeToString(), headers)


@asynccontextmanager
async def consuming(
    database: Database, broker: Broker, handler: Handler = note, **options: Any
) -> AsyncIterator[Consumer]:
    """Runs a consumer for the time of the block."""
    options.setdefault("policy", AT_ONCE)
    handlers = dict.fromkeys((PostCreated, options.pop("also", PostCreated)), handler)
    consumer = Consumer(
        "reader", "scheduler", handlers, database=database, broker=broker, clock=SystemClock(), **options
    )
    await broker.ensure_stream(stream_spec("scheduler"))
    await broker.ensure_consumer(consumer.spec)
    stopping = asyncio.Event()
    task = asyncio.create_task(consumer.run(stopping))
    yield consumer
    stopping.set()
    async with asyncio.timeout(20):
        await task


async def effects(database: Database) -> list[str]:
    async with database.reading() as session:
        return list((await session.execute(text("SELECT post_id FROM effect ORDER BY ctid"))).scalars())


async def letters(database: Database) -> list[Any]:
    async with database.reading() as session:
        return list((await session.execute(text("SELECT * FROM dead_letter ORDER BY id"))).all())


async def handled(broker: Broker, consumer: Consumer) -> None:
    await settle([], [consumer], broker)


async def test_events_are_handled_in_order_and_settled(database: Database, broker: NatsBroker) -> None:
    async with consuming(database, broker) as consumer:
        await broker.publish([envelope(f"p{number}") for number in range(250)])
        await handled(broker, consumer)
    assert await effects(database) == [f"p{number}" for number in range(250)]


async def test_the_same_event_delivered_ten_times_has_one_effect(database: Database) -> None:
    broker = MemoryBroker()
    await broker.ensure_stream(stream_spec("scheduler"))
    one = envelope("p1")
    async with consuming(database, broker) as consumer:
        for number in range(10):
            # Another message id gets past the broker's own deduplication; the event's id stays.
            await broker.publish([Envelope(one.subject, f"copy-{number}", one.payload, one.headers)])
        await handled(broker, consumer)
    assert await effects(database) == ["p1"]


async def test_a_poison_event_ends_in_the_dead_letters_and_its_neighbours_go_on(
    database: Database, broker: NatsBroker
) -> None:
    async with consuming(database, broker) as consumer:
        await broker.publish([envelope("a"), envelope("poison"), envelope("b")])
        await handled(broker, consumer)
        await broker.publish([envelope("c")])
        await handled(broker, consumer)
    assert await effects(database) == ["a", "b", "c"]
    (letter,) = await letters(database)
    assert letter.reason == "ValueError: cannot be handled"
    assert letter.attempts == AT_ONCE.max_attempts
    assert PostCreated.FromString(letter.payload).post_id == "poison"


@pytest.mark.parametrize(
    "broken",
    [
        Envelope(subject_of(PostCreated.DESCRIPTOR.full_name, WORKSPACE), "x", b"\xff\xff\xff", {"ce-type": "?"}),
        Envelope(subject_of(PostCreated.DESCRIPTOR.full_name, WORKSPACE), "x", b"", {}),
        Envelope(
            subject_of(PostCreated.DESCRIPTOR.full_name, WORKSPACE),
            "x",
            b"\xff\xff\xff",
            {**envelope("p").headers, "Nats-Msg-Id": "x"},
        ),
    ],
    ids=["unknown type", "no headers", "unreadable payload"],
)
async def test_what_is_no_event_is_set_aside_at_once(database: Database, broker: NatsBroker, broken: Envelope) -> None:
    async with consuming(database, broker) as consumer:
        await broker.publish([broken, envelope("good")])
        await handled(broker, consumer)
    assert await effects(database) == ["good"]
    (letter,) = await letters(database)
    assert letter.reason.startswith("cannot be read as")
    assert letter.payload == broken.payload


async def test_a_run_of_dead_letters_stops_the_consumer_and_turns_it_unhealthy(
    database: Database, broker: NatsBroker
) -> None:
    async with consuming(database, broker, dead_in_a_row=3, batch=1) as consumer:
        await broker.publish([envelope("poison") for _ in range(10)])

        async def stopped() -> bool:
            return not consumer.healthy

        await until(stopped, what="the stop")
        assert "3 dead letters in a row" in consumer.stopped_because
        assert len(await letters(database)) == 3
        assert await broker.pending(consumer.spec) >= 7


async def test_a_failure_that_passes_is_retried_until_it_works(database: Database, broker: NatsBroker) -> None:
    failures = iter([ValueError("first"), ValueError("second")])

    async def flaky(session: AsyncSession, events: Sequence[Event[PostCreated]]) -> None:
        for failure in failures:
            raise failure
        await note(session, events)

    async with consuming(database, broker, flaky) as consumer:
        await broker.publish([envelope("p1")])
        await handled(broker, consumer)
    assert await effects(database) == ["p1"]
    assert await letters(database) == []


class PostRefused(Invalid):
    """No handling can make this event right."""


class PostUnacceptable(Unprocessable):
    """Well-formed, and never to be accepted."""


@pytest.mark.parametrize("refusal", [PostRefused("its id is no id"), PostUnacceptable("nobody can mean this")])
async def test_an_event_that_can_never_be_handled_is_set_aside_at_once(
    database: Database, broker: NatsBroker, refusal: RegieError
) -> None:
    async def refuse(session: AsyncSession, events: Sequence[Event[PostCreated]]) -> None:
        if any(event.message.post_id == "bad" for event in events):
            raise refusal
        await note(session, events)

    async with consuming(database, broker, refuse) as consumer:
        await broker.publish([envelope("a"), envelope("bad"), envelope("b")])
        await handled(broker, consumer)
    assert await effects(database) == ["a", "b"]
    (letter,) = await letters(database)
    assert (letter.attempts, letter.reason) == (1, f"{type(refusal).__name__}: {refusal}")


async def test_an_error_that_may_pass_is_retried_whatever_its_kind(database: Database, broker: NatsBroker) -> None:
    async def absent(session: AsyncSession, events: Sequence[Event[PostCreated]]) -> None:
        raise NotFound("not here yet")

    async with consuming(database, broker, absent) as consumer:
        await broker.publish([envelope("a")])
        await handled(broker, consumer)
    (letter,) = await letters(database)
    assert letter.attempts == AT_ONCE.max_attempts


async def test_an_outage_of_the_database_is_waited_out_and_counts_against_no_message(
    database: Database, broker: NatsBroker
) -> None:
    async def terminated(session: AsyncSession, events: Sequence[Event[PostCreated]]) -> None:
        if not await effects(database):
            async with database.transaction() as other:
                await note(other, [event for event in events if event.message.post_id != "x"])
            await session.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
        await session.execute(text("INSERT INTO effect VALUES ('after')"))

    policy = RetryPolicy(max_attempts=1)
    async with consuming(database, broker, terminated, policy=policy) as consumer:
        await broker.publish([envelope("p1")])
        await handled(broker, consumer)
    assert await effects(database) == ["p1", "after"]
    assert await letters(database) == []


async def test_a_redrive_handles_the_letter_and_forgets_it(database: Database, broker: NatsBroker) -> None:
    async with consuming(database, broker) as consumer:
        await broker.publish([envelope("poison")])
        await handled(broker, consumer)

    again = await dead_letters.redrive(database, {PostCreated: note})
    assert list(again.failed.values()) == ["ValueError: cannot be handled"]
    assert (await letters(database))[0].attempts == AT_ONCE.max_attempts + 1

    async def mended(session: AsyncSession, events: Sequence[Event[PostCreated]]) -> None:
        await session.execute(text("INSERT INTO effect VALUES ('mended')"))

    assert len((await dead_letters.redrive(database, {PostCreated: mended})).handled) == 1
    assert await effects(database) == ["mended"]
    assert await letters(database) == []


async def test_two_replicas_share_the_work(database: Database, broker: NatsBroker) -> None:
    async with consuming(database, broker, batch=5) as one, consuming(database, broker, batch=5):
        await broker.publish([envelope(f"p{number}") for number in range(100)])
        await handled(broker, one)
    assert sorted(await effects(database)) == sorted(f"p{number}" for number in range(100))


async def test_a_consumer_waits_for_a_stream_that_its_owner_has_not_made_yet(
    database: Database, broker: NatsBroker
) -> None:
    consumer = Consumer(
        "reader", "scheduler", {PostCreated: note}, database=database, broker=broker, clock=SystemClock()
    )
    stopping = asyncio.Event()
    task = asyncio.create_task(consumer.run(stopping))
    await broker.ensure_stream(stream_spec("scheduler"))
    await broker.publish([envelope("p1")])

    async def seen() -> bool:
        return await effects(database) == ["p1"]

    await until(seen)
    stopping.set()
    await task


def test_there_is_one_consumer_for_each_service_that_is_listened_to(database: Database) -> None:
    both = {PostCreated: note, PostCancelled: note}
    made = consumers("gateway", both, database=database, broker=MemoryBroker(), clock=SystemClock())
    assert [consumer.name for consumer in made] == ["gateway reads scheduler"]
    assert made[0].spec.subjects == ("regie.scheduler.v1.post_cancelled.*", "regie.scheduler.v1.post_created.*")


def renamed(one: Envelope, **headers: str) -> Envelope:
    changed = {name.replace("_", "-"): value for name, value in headers.items()}
    return Envelope(one.subject, one.id, one.payload, {**one.headers, **changed})


@pytest.mark.parametrize(
    "forged",
    [
        renamed(envelope("another workspace's"), ce_workspaceid=show_id(WORKSPACE_ID, new_id())),
        renamed(envelope("another event's"), ce_type=PostCancelled.DESCRIPTOR.full_name),
        Envelope(subject_of(PostCancelled.DESCRIPTOR.full_name, WORKSPACE), "x", b"", dict(envelope("moved").headers)),
    ],
    ids=["workspace", "type", "subject"],
)
async def test_an_event_that_is_not_of_its_subject_is_set_aside(database: Database, forged: Envelope) -> None:
    broker = MemoryBroker()
    async with consuming(database, broker, also=PostCancelled) as consumer:
        await broker.publish([forged, envelope("genuine")])
        await handled(broker, consumer)
        assert consumer.healthy
    assert await effects(database) == ["genuine"]
    (letter,) = await letters(database)
    assert "its type and workspace are not those of its subject" in letter.reason


@pytest.mark.parametrize("kind", [Invalid, Unprocessable, TooLarge])
async def test_refused_events_never_stop_a_consumer(
    database: Database, broker: NatsBroker, kind: type[RegieError]
) -> None:
    async def refuse(session: AsyncSession, events: Sequence[Event[PostCreated]]) -> None:
        if any(event.message.post_id == "poison" for event in events):
            raise kind("the network's answer makes no sense")
        await note(session, events)

    async with consuming(database, broker, refuse, dead_in_a_row=3) as consumer:
        await broker.publish([envelope("poison", new_id()) for _ in range(10)])
        await broker.publish([envelope("good")])
        await handled(broker, consumer)
        assert consumer.healthy
    assert await effects(database) == ["good"]
    assert len(await letters(database)) == 10


async def test_bad_events_scattered_in_a_backlog_are_no_run(database: Database, broker: NatsBroker) -> None:
    await broker.ensure_stream(stream_spec("scheduler"))
    backlog = [envelope("poison" if number % 15 == 0 else f"p{number}", new_id()) for number in range(390)]
    await broker.publish(backlog)
    async with consuming(database, broker, policy=RetryPolicy(max_attempts=1)) as consumer:
        await handled(broker, consumer)
        assert consumer.healthy
    assert len(await letters(database)) == 26
    assert len(await effects(database)) == 364


async def test_one_workspaces_dead_letters_do_not_stop_the_others(database: Database, broker: NatsBroker) -> None:
    hostile = new_id()
    async with consuming(database, broker, dead_in_a_row=3, batch=1) as consumer:
        await broker.publish([envelope("first")])
        await broker.publish([envelope("poison", hostile) for _ in range(10)])
        await broker.publish([envelope("last")])
        await handled(broker, consumer)
        assert consumer.healthy
    assert await effects(database) == ["first", "last"]
    assert len(await letters(database)) == 10


async def test_a_letter_keeps_whatever_a_message_carries(database: Database, broker: NatsBroker) -> None:
    subject = subject_of(PostCreated.DESCRIPTOR.full_name, WORKSPACE)
    headers = {"ce-type": PostCreated.DESCRIPTOR.full_name, "ce-id": "\ud800 a\x00b" + "x" * 5000}
    received = Received(Envelope(subject, "a", b"\xff", headers), 1, 1, None)
    async with database.transaction() as session:
        await dead_letters.keep(session, "s", received, reason="\ud800\x00" + "y" * 5000, attempts=1)
    (letter,) = await letters(database)
    assert len(letter.reason) == dead_letters.MAX_REASON
