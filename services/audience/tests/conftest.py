"""A migrated database, a signer of callers, and the whole service on a clock that stands still."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from google.protobuf.message import Message
from joserfc.jwk import OKPKey
from regie.audience.events.v1 import audience_events_pb2
from regie.audience.v1.profiles_service_pb2_grpc import ProfilesServiceStub
from regie.audience.v1.segments_service_pb2_grpc import SegmentsServiceStub
from regie_audience.app import build
from regie_audience.memberships.work import SegmentWork
from regie_audience.profiles.changes import ProfileInput, upsert_profiles
from regie_audience.profiles.queries import Profile
from regie_audience.rules.model import parse_rule
from regie_audience.segments.lifecycle import create_segment
from regie_audience.segments.queries import Segment, get_segment
from regie_audience.settings import AudienceSettings
from regie_chassis.database import Database
from regie_chassis.identity import Caller, Signer, new_key
from regie_chassis.ids import new_id
from regie_chassis.messaging import Envelope, headers_of, stream_spec, subject_of
from regie_chassis.relay import IDLE
from regie_chassis.rpc import open_channel
from regie_chassis.service import Service
from regie_chassis.testing.clock import FakeClock
from regie_chassis.testing.fixtures import NewDatabase
from regie_chassis.testing.memory_broker import MemoryBroker
from regie_chassis.testing.waiting import LOOK_EVERY
from sqlalchemy import text

Method = Callable[[Message], Any]
"""The RPC of a request."""
MIGRATIONS = Path(__file__).resolve().parents[1] / "migrations"


@pytest.fixture
async def database(new_database: NewDatabase) -> Database:
    """The service's database, migrated."""
    return await new_database(MIGRATIONS)


@pytest.fixture
def workspace_id() -> UUID:
    """The workspace of the test."""
    return new_id()


@pytest.fixture
def key() -> OKPKey:
    """The gateway's key."""
    return new_key()


@pytest.fixture
def sign(key: OKPKey, clock: FakeClock) -> Callable[[UUID], str]:
    """Returns a token of a caller from a workspace."""
    signer = Signer(key)
    return lambda workspace_id: signer.sign(Caller(workspace_id, "key_test"), audience="audience", now=clock.now())


@pytest.fixture
async def memory_broker(clock: FakeClock) -> MemoryBroker:
    """A broker in memory that has the publisher's stream."""
    broker = MemoryBroker(clock)
    await broker.ensure_stream(stream_spec("publisher"))
    return broker


@pytest.fixture
async def service(
    database: Database, memory_broker: MemoryBroker, clock: FakeClock, key: OKPKey
) -> AsyncIterator[Service]:
    """The running service."""
    settings = AudienceSettings(
        database_url=database.url,
        identity_public_key=json.dumps(key.as_dict(private=False)),
    )
    service = build(settings, clock=clock, broker=memory_broker)
    async with service.app:
        yield service
        ticking = asyncio.create_task(_tick(clock))
    ticking.cancel()


async def _tick(clock: FakeClock) -> None:
    """Lets time go on while the service drains: its relay looks up from a wait of its own only when that ends."""
    while True:
        await clock.advance(IDLE)
        await asyncio.sleep(LOOK_EVERY)


@pytest.fixture
async def method(service: Service) -> AsyncIterator[Method]:
    """Returns the running service's method for a request, by its name."""
    assert service.rpc is not None
    async with open_channel(service.rpc.target) as channel:
        stubs = (ProfilesServiceStub(channel), SegmentsServiceStub(channel))

        def named(request: Message) -> Any:
            name = request.DESCRIPTOR.name.removesuffix("Request")
            return next(getattr(stub, name) for stub in stubs if hasattr(stub, name))

        yield named


@pytest.fixture
def say(clock: FakeClock, workspace_id: UUID) -> Callable[..., Envelope]:
    """Makes the message that carries an event."""

    def make(message: Message, *, workspace: UUID | None = None) -> Envelope:
        name, owner, event_id = message.DESCRIPTOR.full_name, workspace or workspace_id, new_id()
        headers = headers_of(name, event_id=event_id, workspace_id=owner, time=clock.now(), traceparent="")
        return Envelope(subject_of(name, owner), str(event_id), message.SerializeToString(), headers)

    return make


@pytest.fixture
def upsert(database: Database, workspace_id: UUID, clock: FakeClock) -> Callable[..., Awaitable[list[Profile]]]:
    """Upserts profiles given as external id = attributes."""

    async def run(people: dict[str, dict[str, object]], *, workspace: UUID | None = None) -> list[Profile]:
        inputs = [ProfileInput(new_id(), external_id, given) for external_id, given in people.items()]
        async with database.transaction() as session:
            return await upsert_profiles(
                session, workspace_id=workspace or workspace_id, inputs=inputs, now=clock.now()
            )

    return run


@pytest.fixture
def begin(database: Database, workspace_id: UUID, clock: FakeClock) -> Callable[..., Awaitable[Segment]]:
    """Creates a segment of a rule given as data, and leaves it to be filled."""

    async def run(name: str, rule: dict[str, object], *, request_id: str = "") -> Segment:
        async with database.transaction() as session:
            return await create_segment(
                session,
                segment_id=new_id(),
                workspace_id=workspace_id,
                request_id=request_id,
                name=name,
                rule=parse_rule(rule),
                now=clock.now(),
            )

    return run


@pytest.fixture
def work(database: Database, clock: FakeClock) -> SegmentWork:
    """The loop that fills and removes, in small chunks, moved by hand."""
    return SegmentWork(database, clock, chunk=7)


@pytest.fixture
def create(
    begin: Callable[..., Awaitable[Segment]], work: SegmentWork, database: Database, workspace_id: UUID
) -> Callable[..., Awaitable[Segment]]:
    """Creates a segment and fills it."""

    async def run(name: str, rule: dict[str, object], *, request_id: str = "") -> Segment:
        made = await begin(name, rule, request_id=request_id)
        while await work.step():
            pass
        async with database.reading() as session:
            return await get_segment(session, workspace_id=workspace_id, segment_id=made.id)

    return run


@pytest.fixture
def said(database: Database) -> Callable[[], Awaitable[list[Message]]]:
    """Returns the events that were staged since the last look, in their order."""
    seen = 0

    async def look() -> list[Message]:
        nonlocal seen
        async with database.reading() as session:
            rows = (
                await session.execute(
                    text("SELECT id, type, payload FROM outbox WHERE id > :seen ORDER BY id"), {"seen": seen}
                )
            ).all()
        seen = rows[-1].id if rows else seen
        return [getattr(audience_events_pb2, row.type.rsplit(".", 1)[-1]).FromString(row.payload) for row in rows]

    return look
