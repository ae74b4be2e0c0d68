"""The publisher on real PostgreSQL, with a network in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from regie_chassis.boundary.ids import new_id
from regie_chassis.data.database import Database
from regie_chassis.process.clock import Clock
from regie_local.testing.clock import FakeClock
from regie_publisher.channels.accounts import MAX_CHANNELS
from regie_publisher.channels.sealing import Keyring, new_master_key
from regie_publisher.testing.harness import NewHarness, PublisherHarness, open_harness
from regie_publisher.testing.network import FakeConnector


@pytest.fixture
def connector() -> FakeConnector:
    """A network in memory."""
    return FakeConnector()


@pytest.fixture
async def new_harness(database: Database, connector: FakeConnector, clock: FakeClock) -> AsyncIterator[NewHarness]:
    """Makes harnesses: several on one database are several replicas."""
    keyring = Keyring(new_master_key())
    workspace_id = new_id()
    made: list[PublisherHarness] = []

    def make(
        *,
        own_clock: Clock | None = None,
        in_flight: int = 50,
        channel_in_flight: int = 50,
        on: Database | None = None,
        max_channels: int = MAX_CHANNELS,
    ) -> PublisherHarness:
        harness = open_harness(
            on or database,
            connector,
            own_clock or clock,
            keyring=keyring,
            workspace_id=workspace_id,
            name=f"worker {len(made)}",
            in_flight=in_flight,
            channel_in_flight=channel_in_flight,
            max_channels=max_channels,
        )
        made.append(harness)
        return harness

    yield make
    for harness in made:
        async with asyncio.timeout(20):
            await harness.worker.finish()
            await harness.pictures.stop()


@pytest.fixture
def harness(new_harness: NewHarness) -> PublisherHarness:
    """One replica."""
    return new_harness()
