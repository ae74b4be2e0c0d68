"""Fixtures of metrics' tests: readings, and the whole service on a clock that stands still."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from joserfc.jwk import OKPKey
from regie.ids.v1.prefixes import CHANNEL, DELIVERY, POST
from regie.metrics.v1.post_metrics_service_pb2_grpc import PostMetricsServiceStub
from regie.publisher.events.v1.publisher_events_pb2 import PostMetricsObserved
from regie_chassis.boundary.ids import new_id, show_id
from regie_chassis.boundary.rpc import open_channel
from regie_chassis.data.database import Database
from regie_chassis.process.service import Service
from regie_local.testing.clock import FakeClock
from regie_local.testing.memory_broker import MemoryBroker
from regie_local.testing.service_fixtures import running, settings_on
from regie_metrics.app import NAME, build
from regie_metrics.settings import MetricsSettings
from regie_metrics.testing import MakeReading


@pytest.fixture
def service_name() -> str:
    """The service under test."""
    return NAME


@pytest.fixture
def make_reading(clock: FakeClock) -> MakeReading:
    """Makes an event; a field that is not given is new."""

    def make(**fields: Any) -> PostMetricsObserved:
        given: dict[str, Any] = {
            "delivery_id": show_id(DELIVERY, new_id()),
            "post_id": show_id(POST, new_id()),
            "channel_id": show_id(CHANNEL, new_id()),
            "network": "sandbox",
            "values": {"likes": 1},
            "observe_time": clock.now(),
            **fields,
        }
        return PostMetricsObserved(**given)

    return make


@pytest.fixture
async def service(
    database: Database, memory_broker: MemoryBroker, clock: FakeClock, key: OKPKey
) -> AsyncIterator[Service]:
    """The running service."""
    settings = settings_on(MetricsSettings, database, key)
    async with running(build(settings, clock=clock, broker=memory_broker), clock) as service:
        yield service


@pytest.fixture
async def stub(service: Service) -> AsyncIterator[PostMetricsServiceStub]:
    """A client of the running service."""
    assert service.rpc is not None
    async with open_channel(service.rpc.target) as channel:
        yield PostMetricsServiceStub(channel)
