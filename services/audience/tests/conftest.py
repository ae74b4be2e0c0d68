"""Fixtures of the audience's tests: the whole service on a clock that stands still, profiles and segments."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any
from uuid import UUID

import pytest
from google.protobuf.message import Message
from joserfc.jwk import OKPKey
from regie.audience.events.v1 import audience_events_pb2
from regie.audience.v1.profiles_service_pb2_grpc import ProfilesServiceStub
from regie.audience.v1.segments_service_pb2_grpc import SegmentsServiceStub
from regie_audience.app import NAME, build
from regie_audience.memberships.work import SegmentWork
from regie_audience.profiles.changes import ProfileInput, upsert_profiles
from regie_audience.profiles.queries import Profile
from regie_audience.rules.model import parse_rule
from regie_audience.segments.lifecycle import create_segment
from regie_audience.segments.queries import Segment, get_segment
from regie_audience.settings import AudienceSettings
from regie_audience.testing import CreateSegment, Method, NewEvents, Upsert, finish
from regie_chassis.boundary.ids import new_id
from regie_chassis.boundary.rpc import open_channel
from regie_chassis.data.database import Database
from regie_chassis.process.service import Service
from regie_local.testing.clock import FakeClock
from regie_local.testing.memory_broker import MemoryBroker
from regie_local.testing.service_fixtures import running, settings_on
from sqlalchemy import text


@pytest.fixture
def service_name() -> str:
    """The service under test."""
    return NAME


@pytest.fixture
async def service(
    database: Database, memory_broker: MemoryBroker, clock: FakeClock, key: OKPKey
) -> AsyncIterator[Service]:
    """The running service."""
    settings = settings_on(AudienceSettings, database, key)
    async with running(build(settings, clock=clock, broker=memory_broker), clock) as service:
        yield service


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
def upsert(database: Database, workspace_id: UUID, clock: FakeClock) -> Upsert:
    """Upserts profiles given as external id = attributes."""

    async def run(people: Mapping[str, Mapping[str, object]], *, workspace: UUID | None = None) -> list[Profile]:
        inputs = [ProfileInput(new_id(), external_id, given) for external_id, given in people.items()]
        async with database.transaction() as session:
            return await upsert_profiles(
                session, workspace_id=workspace or workspace_id, inputs=inputs, now=clock.now()
            )

    return run


@pytest.fixture
def begin(database: Database, workspace_id: UUID, clock: FakeClock) -> CreateSegment:
    """Creates a segment of a rule given as data, and leaves it to be filled."""

    async def run(name: str, rule: Mapping[str, object], *, request_id: str = "") -> Segment:
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
def create(begin: CreateSegment, work: SegmentWork, database: Database, workspace_id: UUID) -> CreateSegment:
    """Creates a segment and fills it."""

    async def run(name: str, rule: Mapping[str, object], *, request_id: str = "") -> Segment:
        segment = await begin(name, rule, request_id=request_id)
        await finish(work)
        async with database.reading() as session:
            return await get_segment(session, workspace_id=workspace_id, segment_id=segment.id)

    return run


@pytest.fixture
def new_events(database: Database) -> NewEvents:
    """Reads the outbox from the last row on."""
    last_id = 0

    async def read() -> list[Any]:
        nonlocal last_id
        async with database.reading() as session:
            rows = (
                await session.execute(
                    text("SELECT id, type, payload FROM outbox WHERE id > :last_id ORDER BY id"), {"last_id": last_id}
                )
            ).all()
        last_id = rows[-1].id if rows else last_id
        return [getattr(audience_events_pb2, row.type.rsplit(".", 1)[-1]).FromString(row.payload) for row in rows]

    return read
