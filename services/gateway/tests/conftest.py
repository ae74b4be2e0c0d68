"""The gateway on a real PostgreSQL and NATS, with fakes behind it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest
from joserfc.jwk import OKPKey
from regie_chassis.clock import Clock
from regie_chassis.database import Database
from regie_chassis.ids import new_id
from regie_chassis.nats_broker import NatsBroker
from regie_chassis.testing.clock import FakeClock
from regie_gateway.access import api_keys
from regie_gateway.access.bootstrap import bootstrap
from regie_gateway.app import Gateway, build
from regie_gateway.settings import GatewaySettings
from regie_gateway.testing.backends import FakeBackends

MIGRATIONS = Path(__file__).parents[1] / "migrations"
KEY = OKPKey.generate_key("Ed25519")


@dataclass(slots=True)
class World:
    """The gateway, not started, with what is around it."""

    gateway: Gateway
    backends: FakeBackends
    clock: Clock
    database: Database
    token: str

    def client(self, token: str | None = None) -> httpx2.AsyncClient:
        """Returns a client in the same process; the empty token sends none."""
        transport = httpx2.ASGITransport(app=self.gateway.application, raise_app_exceptions=False)
        return httpx2.AsyncClient(transport=transport, base_url="http://regie", headers=headers(self.token, token))

    def network_client(self, token: str | None = None) -> httpx2.AsyncClient:
        """Returns a client over the loopback, for a gateway that was started."""
        return httpx2.AsyncClient(base_url=self.gateway.http.url, headers=headers(self.token, token), timeout=20)

    async def workspace(self, name: str) -> str:
        """Makes another workspace and returns a key of it."""
        made = await bootstrap(self.database, self.clock, name=name, new_key=False)
        assert made.api_key is not None
        return made.api_key

    async def key(self, *scopes: str) -> str:
        """Returns a key of the first workspace with these scopes only."""
        secret = api_keys.new_secret()
        read = api_keys.read_token(self.token)
        assert read is not None
        async with self.database.transaction() as session:
            first = await api_keys.find_api_key(session, key_id=read[0])
            assert first is not None
            key, _ = await api_keys.create_api_key(
                session,
                key_id=new_id(),
                request_id=new_id(),
                workspace_id=first.workspace_id,
                name="narrow",
                scopes=scopes,
                held=scopes,
                secret=secret,
                now=self.clock.now(),
            )
        return api_keys.show_token(key.id, secret)


def headers(default: str, token: str | None) -> dict[str, str]:
    chosen = default if token is None else token
    return {"Authorization": f"Bearer {chosen}"} if chosen else {}


MakeWorld = Callable[..., Awaitable[World]]


@pytest.fixture
async def make_world(
    new_database: Callable[[Path], Awaitable[Database]], broker: NatsBroker
) -> AsyncIterator[MakeWorld]:
    """Makes worlds; `clock` and settings can be chosen."""
    made: list[World] = []

    async def make(clock: Clock, **settings: object) -> World:
        database = await new_database(MIGRATIONS)
        backends = FakeBackends(KEY, clock)
        await backends.server.start()
        target = backends.server.target
        chosen: dict[str, object] = {
            "database_url": database.url,
            "http_port": 0,
            "identity_private_key": json.dumps(KEY.as_dict(private=True)),
            "scheduler_target": target,
            "publisher_target": target,
            "audience_target": target,
            "metrics_target": target,
            "rate_per_second": 0,
            "workspace_rate_per_second": 0,
            "drain_seconds": 5,
        }
        gateway = build(GatewaySettings.model_validate(chosen | settings), clock=clock, broker=broker)
        first = await bootstrap(database, clock, name="first", new_key=False)
        assert first.api_key is not None
        made.append(World(gateway, backends, clock, database, first.api_key))
        return made[-1]

    yield make
    for world in made:
        for part in world.gateway.closings:
            await part.stop()
        await world.backends.server.stop()


@pytest.fixture
async def world(make_world: MakeWorld, clock: FakeClock) -> World:
    """A gateway that is not started, under a clock that stands still."""
    return await make_world(clock)
