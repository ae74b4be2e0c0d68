"""A person who reacts to a post is a profile, counted once for each reaction."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from regie.audience.events.v1.audience_events_pb2 import ProfileUpdated, SegmentEntered
from regie.ids.v1.prefixes import CHANNEL, POST
from regie.publisher.events.v1.publisher_events_pb2 import EngagementObserved
from regie_audience.attributes import InvalidProfile
from regie_audience.engagements import on_engagement_observed
from regie_audience.events import subscriptions
from regie_audience.profiles.queries import Profile, list_profiles
from regie_audience.testing import CreateSegment, NewEvents, Upsert
from regie_chassis.boundary.ids import new_id, show_id
from regie_chassis.data.database import Database
from regie_chassis.events.consumer import Consumer
from regie_chassis.events.messaging import Envelope, Event
from regie_chassis.process.retry import RetryPolicy
from regie_chassis.process.service import Service
from regie_local.testing.clock import FakeClock
from regie_local.testing.memory_broker import MemoryBroker
from regie_local.testing.service_fixtures import MakeEnvelope
from regie_local.testing.waiting import until
from sqlalchemy import text

MakeEngagement = Callable[..., EngagementObserved]
Deliver = Callable[..., Awaitable[None]]

FAN = {"comparison": {"attribute": "regie.engagement_count", "operator": "ge", "value": 3}}


@pytest.fixture
def consumer(database: Database, memory_broker: MemoryBroker, clock: FakeClock) -> Consumer:
    """A consumer without patience, which the test moves by hand."""
    return Consumer(
        "audience",
        "publisher",
        subscriptions(clock),
        database=database,
        broker=memory_broker,
        clock=clock,
        policy=RetryPolicy(max_attempts=1),
    )


@pytest.fixture
def make_engagement(clock: FakeClock) -> MakeEngagement:
    """Makes an engagement; every other field has a plain value."""

    def make(**fields: Any) -> EngagementObserved:
        given: dict[str, Any] = {
            "post_id": show_id(POST, new_id()),
            "channel_id": show_id(CHANNEL, new_id()),
            "network": "sandbox",
            "actor_id": "7",
            "actor_handle": "ada",
            "kind": "like",
            "observe_time": clock.now(),
            **fields,
        }
        return EngagementObserved(**given)

    return make


@pytest.fixture
def deliver(consumer: Consumer, memory_broker: MemoryBroker) -> Deliver:
    """Publishes messages and lets the consumer handle one batch."""

    async def run(*envelopes: Envelope) -> None:
        await memory_broker.publish(envelopes)
        await consumer.handle(await memory_broker.fetch(consumer.spec, 100, timedelta(0)))

    return run


async def _profiles(database: Database, workspace_id: UUID) -> dict[str, Profile]:
    async with database.reading() as session:
        page = await list_profiles(session, workspace_id=workspace_id, page_size=200, page_token="")
    return {one.external_id: one for one in page.items}


async def test_a_reaction_makes_a_profile(
    deliver: Deliver,
    make_engagement: MakeEngagement,
    make_envelope: MakeEnvelope,
    database: Database,
    workspace_id: UUID,
) -> None:
    await deliver(make_envelope(make_engagement()))

    (found,) = (await _profiles(database, workspace_id)).values()
    assert found.external_id == "sandbox:7"
    assert found.attributes == {
        "regie.network": "sandbox",
        "regie.handle": "ada",
        "regie.last_engagement_kind": "like",
        "regie.last_engagement_time": "2026-03-02T09:00:00.000000Z",
        "regie.engagement_count": 1,
    }


async def test_reactions_add_up_within_a_batch_and_across_batches(
    deliver: Deliver,
    make_engagement: MakeEngagement,
    make_envelope: MakeEnvelope,
    database: Database,
    workspace_id: UUID,
    clock: FakeClock,
) -> None:
    await deliver(
        make_envelope(make_engagement()),
        make_envelope(make_engagement(actor_id="8")),
        make_envelope(make_engagement(kind="reply")),
    )
    await clock.advance(timedelta(minutes=1))
    await deliver(make_envelope(make_engagement(kind="quote", actor_handle="ada.new")))

    profiles = await _profiles(database, workspace_id)
    assert {name: one.attributes["regie.engagement_count"] for name, one in profiles.items()} == {
        "sandbox:7": 3,
        "sandbox:8": 1,
    }
    assert profiles["sandbox:7"].attributes["regie.last_engagement_kind"] == "quote"
    assert profiles["sandbox:7"].attributes["regie.handle"] == "ada.new"


async def test_a_late_reaction_counts_and_is_not_taken_for_the_last(
    deliver: Deliver,
    make_engagement: MakeEngagement,
    make_envelope: MakeEnvelope,
    database: Database,
    workspace_id: UUID,
    clock: FakeClock,
) -> None:
    await deliver(make_envelope(make_engagement(kind="reply")))
    await deliver(
        make_envelope(make_engagement(kind="like", observe_time=clock.now() - timedelta(seconds=1), actor_handle="old"))
    )

    found = (await _profiles(database, workspace_id))["sandbox:7"].attributes
    assert (found["regie.engagement_count"], found["regie.last_engagement_kind"], found["regie.handle"]) == (
        2,
        "reply",
        "ada",
    )


async def test_a_reaction_delivered_ten_times_counts_once(
    deliver: Deliver,
    make_engagement: MakeEngagement,
    make_envelope: MakeEnvelope,
    new_events: NewEvents,
    database: Database,
    workspace_id: UUID,
    consumer: Consumer,
    memory_broker: MemoryBroker,
) -> None:
    await memory_broker.publish([make_envelope(make_engagement())])
    received = await memory_broker.fetch(consumer.spec, 100, timedelta(0))

    for _ in range(10):
        await consumer.handle(received)

    assert (await _profiles(database, workspace_id))["sandbox:7"].attributes["regie.engagement_count"] == 1
    assert [type(event) for event in await new_events()] == [ProfileUpdated]


async def test_segments_follow_reactions(
    deliver: Deliver,
    make_engagement: MakeEngagement,
    make_envelope: MakeEnvelope,
    new_events: NewEvents,
    create: CreateSegment,
) -> None:
    await create("fans", FAN)
    await new_events()
    await deliver(make_envelope(make_engagement()), make_envelope(make_engagement()))
    assert [type(event) for event in await new_events()] == [ProfileUpdated]

    await deliver(make_envelope(make_engagement()))

    assert [type(event) for event in await new_events()] == [ProfileUpdated, SegmentEntered]


async def test_what_is_said_belongs_to_the_trace_of_the_reaction_also_in_a_batch(
    database: Database, make_engagement: MakeEngagement, create: CreateSegment, workspace_id: UUID, clock: FakeClock
) -> None:
    await create("likers", {"comparison": {"attribute": "regie.engagement_count", "operator": "ge", "value": 1}})
    traces = {name: f"00-{number:032x}-{number:016x}-01" for number, name in enumerate(("1", "2"), start=1)}
    events = [
        Event(new_id(), workspace_id, clock.now(), make_engagement(actor_id=name), traceparent)
        for name, traceparent in traces.items()
    ]

    async with database.transaction() as session:
        await on_engagement_observed(session, events, new_id=new_id, now=clock.now())

    async with database.reading() as session:
        rows = await session.execute(
            text("SELECT type, traceparent FROM outbox WHERE traceparent <> '' ORDER BY traceparent, id")
        )
        found = [(row.type.rsplit(".", 1)[-1], row.traceparent) for row in rows]
    assert found == [
        (kind, traceparent) for traceparent in traces.values() for kind in ("ProfileUpdated", "SegmentEntered")
    ]


async def test_reactions_in_two_workspaces_stay_apart(
    deliver: Deliver,
    make_engagement: MakeEngagement,
    make_envelope: MakeEnvelope,
    database: Database,
    workspace_id: UUID,
) -> None:
    other = new_id()
    await deliver(
        make_envelope(make_engagement()),
        make_envelope(make_engagement(), workspace=other),
        make_envelope(make_engagement(), workspace=other),
    )

    counts = [
        (await _profiles(database, one))["sandbox:7"].attributes["regie.engagement_count"]
        for one in (workspace_id, other)
    ]
    assert counts == [1, 2]


async def test_what_a_customer_says_neither_freezes_nor_is_frozen_by_what_was_seen(
    deliver: Deliver,
    make_engagement: MakeEngagement,
    make_envelope: MakeEnvelope,
    upsert: Upsert,
    database: Database,
    workspace_id: UUID,
) -> None:
    await upsert({"sandbox:7": {"engagement_count": "many", "last_engagement_time": "9999", "handle": "boss"}})

    await deliver(make_envelope(make_engagement()))

    found = (await _profiles(database, workspace_id))["sandbox:7"].attributes
    assert (found["engagement_count"], found["last_engagement_time"], found["handle"]) == ("many", "9999", "boss")
    assert (found["regie.engagement_count"], found["regie.handle"]) == (1, "ada")
    with pytest.raises(InvalidProfile) as refused:
        await upsert({"sandbox:7": {"regie.handle": None}})
    assert refused.value.field == "profiles[0].attributes.regie.handle"


async def test_a_profile_at_its_limit_of_attributes_takes_reactions_and_updates(
    deliver: Deliver,
    make_engagement: MakeEngagement,
    make_envelope: MakeEnvelope,
    upsert: Upsert,
    database: Database,
    workspace_id: UUID,
) -> None:
    await upsert({"sandbox:7": {f"a{n}": float(n) for n in range(200)}})

    await deliver(make_envelope(make_engagement()))
    await upsert({"sandbox:7": {"a0": 7.0}})

    found = (await _profiles(database, workspace_id))["sandbox:7"].attributes
    assert (len(found), found["a0"], found["regie.engagement_count"]) == (205, 7, 1)


@pytest.mark.parametrize(
    "wrong",
    [
        {"network": ""},
        {"actor_id": ""},
        {"actor_id": "a\nb"},
        {"actor_id": "a" * 600},
        {"kind": "poke"},
        {"observe_time": Timestamp(seconds=10**17)},
    ],
)
async def test_a_reaction_that_cannot_be_read_is_left_out_and_its_neighbours_go_on_in_one_transaction(
    deliver: Deliver,
    make_engagement: MakeEngagement,
    make_envelope: MakeEnvelope,
    database: Database,
    workspace_id: UUID,
    wrong: dict[str, object],
) -> None:
    await deliver(
        make_envelope(make_engagement(actor_id="1")),
        make_envelope(make_engagement(**wrong)),
        make_envelope(make_engagement(actor_id="2")),
    )

    assert set(await _profiles(database, workspace_id)) == {"sandbox:1", "sandbox:2"}
    async with database.reading() as session:
        assert (await session.execute(text("SELECT count(*) FROM dead_letter"))).scalar_one() == 0
        rows = await session.execute(text("SELECT count(DISTINCT xmin::text) FROM profile"))
        assert rows.scalar_one() == 1


async def test_many_absurd_reactions_stop_nothing(
    deliver: Deliver,
    make_engagement: MakeEngagement,
    make_envelope: MakeEnvelope,
    consumer: Consumer,
    database: Database,
    workspace_id: UUID,
) -> None:
    await deliver(*(make_envelope(make_engagement(actor_id="a" * 600)) for _ in range(30)))
    await deliver(make_envelope(make_engagement()))

    assert consumer.healthy
    assert set(await _profiles(database, workspace_id)) == {"sandbox:7"}


async def test_the_running_service_reads_reactions_and_tells_the_world(
    service: Service,
    memory_broker: MemoryBroker,
    make_engagement: MakeEngagement,
    make_envelope: MakeEnvelope,
    workspace_id: UUID,
) -> None:
    await memory_broker.publish([make_envelope(make_engagement())])

    async def event_count() -> int:
        return (await memory_broker.stream_state("regie_audience")).last_seq

    await until(lambda: _profiles(service.database, workspace_id))
    assert await until(event_count) == 1
