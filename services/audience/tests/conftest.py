"""A migrated database, a signer of callers, and the whole service on a clock that stands still."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from uuid import UUID

import pytest
from joserfc.jwk import OKPKey
from regie.audience.v1.audience_service_pb2_grpc import AudienceServiceStub
from regie_audience.app import build
from regie_audience.settings import AudienceSettings
from regie_chassis.database import Database
from regie_chassis.identity import Caller, Signer, new_key
from regie_chassis.ids import new_id
from regie_chassis.messaging import stream_spec
from regie_chassis.rpc import open_channel
from regie_chassis.service import Service
from regie_chassis.testing.clock import FakeClock
from regie_chassis.testing.fixtures import NewDatabase
from regie_chassis.testing.memory_broker import MemoryBroker

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
    return lambda workspace_id: signer.sign(Caller(workspace_id, "key_test"), now=clock.now())


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


@pytest.fixture
async def stub(service: Service) -> AsyncIterator[AudienceServiceStub]:
    """A client of the running service."""
    assert service.rpc is not None
    async with open_channel(service.rpc.target) as channel:
        yield AudienceServiceStub(channel)
