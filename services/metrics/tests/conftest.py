"""A migrated database, a signer of callers, and the whole service on a clock that stands still."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from uuid import UUID

import pytest
from joserfc.jwk import OKPKey
from regie.metrics.v1.post_metrics_service_pb2_grpc import PostMetricsServiceStub
from regie.publisher.events.v1.publisher_events_pb2 import PostMetricsObserved
from regie_chassis.database import Database
from regie_chassis.identity import Caller, Signer, new_key
from regie_chassis.ids import CHANNEL, DELIVERY, POST, new_id, show_id
from regie_chassis.messaging import Envelope, headers_of, stream_spec, subject_of
from regie_chassis.rpc import open_channel
from regie_chassis.service import Service
from regie_local.testing.clock import FakeClock
from regie_local.testing.fixtures import NewDatabase
from regie_local.testing.memory_broker import MemoryBroker
from regie_metrics.app import build
from regie_metrics.settings import MetricsSettings

MIGRATIONS = Path(__file__).resolve().parents[1] / "migrations"

Observed = Callable[..., PostMetricsObserved]
Say = Callable[..., Envelope]


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
    return lambda workspace_id: signer.sign(Caller(workspace_id, "key_test"), audience="metrics", now=clock.now())


@pytest.fixture
def observed(clock: FakeClock) -> Observed:
    """Makes an event; whatever is left out is new."""

    def make(**fields: object) -> PostMetricsObserved:
        observe_time = fields.pop("observe_time", clock.now())
        given = {
            "delivery_id": show_id(DELIVERY, new_id()),
            "post_id": show_id(POST, new_id()),
            "channel_id": show_id(CHANNEL, new_id()),
            "network": "sandbox",
            "values": {"likes": 1},
            **fields,
        }
        return PostMetricsObserved(observe_time=observe_time, **given)

    return make


@pytest.fixture
def say(clock: FakeClock, workspace_id: UUID) -> Say:
    """Makes the message that carries an event."""

    def make(message: PostMetricsObserved, *, workspace: UUID | None = None) -> Envelope:
        name, owner, event_id = message.DESCRIPTOR.full_name, workspace or workspace_id, new_id()
        headers = headers_of(name, event_id=event_id, workspace_id=owner, time=clock.now(), traceparent="")
        return Envelope(subject_of(name, owner), str(event_id), message.SerializeToString(), headers)

    return make


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
    settings = MetricsSettings(
        database_url=database.url,
        identity_public_key=json.dumps(key.as_dict(private=False)),
    )
    service = build(settings, clock=clock, broker=memory_broker)
    async with service.app:
        yield service


@pytest.fixture
async def stub(service: Service) -> AsyncIterator[PostMetricsServiceStub]:
    """A client of the running service."""
    assert service.rpc is not None
    async with open_channel(service.rpc.target) as channel:
        yield PostMetricsServiceStub(channel)
