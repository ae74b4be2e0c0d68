"""The gateway on a real PostgreSQL and NATS, with fakes behind it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from joserfc.jwk import OKPKey
from regie_chassis.events.nats_broker import NatsBroker
from regie_chassis.process.clock import Clock
from regie_gateway.access.bootstrap import bootstrap
from regie_gateway.app import build
from regie_gateway.settings import GatewaySettings
from regie_gateway.testing.backends import FakeBackends
from regie_gateway.testing.harness import GatewayHarness, MakeHarness
from regie_local.services import service_specs
from regie_local.testing.clock import FakeClock
from regie_local.testing.fixtures import NewDatabase

MIGRATIONS = Path(__file__).parents[1] / "migrations"
KEY = OKPKey.generate_key("Ed25519")
BACKENDS = [name for name, spec in service_specs().items() if spec.rpc_port]


@pytest.fixture
async def make_world(new_database: NewDatabase, broker: NatsBroker, tmp_path: Path) -> AsyncIterator[MakeHarness]:
    """Makes gateways; `clock` and settings can be chosen."""
    made: list[GatewayHarness] = []

    async def make(clock: Clock, **settings: object) -> GatewayHarness:
        database = await new_database(MIGRATIONS)
        backends = FakeBackends(KEY, clock)
        await backends.server.start()
        target = backends.server.target
        chosen: dict[str, object] = {
            "database_url": database.url,
            "http_port": 0,
            "identity_private_key": json.dumps(KEY.as_dict(private=True)),
            "targets": dict.fromkeys(BACKENDS, target),
            "rate_per_second": 0,
            "workspace_rate_per_second": 0,
            "drain_seconds": 5,
            "media_url": f"file://{tmp_path}/media",
        }
        gateway = build(GatewaySettings.model_validate(chosen | settings), clock=clock, broker=broker)
        first = await bootstrap(database, clock, name="first", new_key=False)
        assert first.api_key is not None
        made.append(GatewayHarness(gateway, backends, clock, database, first.api_key))
        return made[-1]

    yield make
    for world in made:
        for part in world.gateway.closings:
            await part.stop()
        await world.backends.server.stop()


@pytest.fixture
async def world(make_world: MakeHarness, clock: FakeClock) -> GatewayHarness:
    """A gateway that is not started, under a clock that stands still."""
    return await make_world(clock)
