"""Pytest fixtures for the tests of one service: its database, its caller, its broker in memory and its staged events.

A service's conftest names the service in a fixture `service_name`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Protocol, TypeVar
from uuid import UUID

import pytest
from google.protobuf.message import Message
from joserfc.jwk import OKPKey
from regie_chassis.boundary.identity import Caller, Signer, new_key
from regie_chassis.boundary.ids import new_id
from regie_chassis.data.database import Database
from regie_chassis.events.messaging import Envelope, headers_of, stream_spec, subject_of
from regie_chassis.events.relay import IDLE
from regie_chassis.process.service import Service
from regie_chassis.process.settings import ServiceSettings
from sqlalchemy import text

from regie_local.testing.clock import FakeClock
from regie_local.testing.fixtures import NewDatabase
from regie_local.testing.memory_broker import MemoryBroker
from regie_local.testing.waiting import LOOK_EVERY

StagedEvent = TypeVar("StagedEvent", bound=Message)
Settings = TypeVar("Settings", bound=ServiceSettings)

Sign = Callable[[UUID], str]
"""Returns the token of a caller from a workspace."""


class Staged(Protocol):
    """Returns the staged events of a type, the oldest first."""

    async def __call__(self, kind: type[StagedEvent], /) -> list[StagedEvent]: ...


class MakeEnvelope(Protocol):
    """Returns the envelope that carries an event, from the test's workspace unless another is given."""

    def __call__(self, message: Message, *, workspace: UUID | None = None) -> Envelope: ...


@pytest.fixture
async def database(new_database: NewDatabase, request: pytest.FixtureRequest) -> Database:
    """The database of the service under test, migrated by the folder `migrations` beside its tests."""
    return await new_database(request.path.parents[1] / "migrations")


@pytest.fixture
def workspace_id() -> UUID:
    """The workspace of the test."""
    return new_id()


@pytest.fixture
def key() -> OKPKey:
    """The gateway's key."""
    return new_key()


@pytest.fixture
def sign(key: OKPKey, clock: FakeClock, service_name: str) -> Sign:
    """Signs callers for the service under test."""
    signer = Signer(key)
    return lambda workspace_id: signer.sign(Caller(workspace_id, "key_test"), audience=service_name, now=clock.now())


@pytest.fixture
async def memory_broker(clock: FakeClock) -> MemoryBroker:
    """A broker in memory with the publisher's stream."""
    broker = MemoryBroker(clock)
    await broker.ensure_stream(stream_spec("publisher"))
    return broker


@pytest.fixture
def make_envelope(clock: FakeClock, workspace_id: UUID) -> MakeEnvelope:
    """Wraps events as the relay does."""

    def make(message: Message, *, workspace: UUID | None = None) -> Envelope:
        name, owner, event_id = message.DESCRIPTOR.full_name, workspace or workspace_id, new_id()
        headers = headers_of(name, event_id=event_id, workspace_id=owner, time=clock.now(), traceparent="")
        return Envelope(subject_of(name, owner), str(event_id), message.SerializeToString(), headers)

    return make


@pytest.fixture
def staged(database: Database) -> Staged:
    """Reads the outbox."""

    async def read(kind: type[StagedEvent], /) -> list[StagedEvent]:
        async with database.reading() as session:
            rows = await session.execute(_SELECT_STAGED, {"type": kind.DESCRIPTOR.full_name})
            return [kind.FromString(payload) for payload in rows.scalars()]

    return read


def settings_on(kind: type[Settings], database: Database, key: OKPKey, **others: object) -> Settings:
    """Returns a service's settings on a database, for callers that the key has signed."""
    public_key = json.dumps(key.as_dict(private=False))
    return kind.model_validate({"database_url": database.url, "identity_public_key": public_key, **others})


@asynccontextmanager
async def running(service: Service, clock: FakeClock) -> AsyncIterator[Service]:
    """Runs a service on a clock that stands still. Time goes on while the service drains, or its relay never ends."""
    async with service.app:
        yield service
        ticking = asyncio.create_task(_tick(clock))
    ticking.cancel()


async def _tick(clock: FakeClock) -> None:
    while True:
        await clock.advance(IDLE)
        await asyncio.sleep(LOOK_EVERY)


_SELECT_STAGED = text("SELECT payload FROM outbox WHERE type = :type ORDER BY id")
