"""A gateway for tests, in front of fake services, and clients of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import httpx2
from regie_chassis.boundary.ids import new_id
from regie_chassis.data.database import Database
from regie_chassis.process.clock import Clock

from regie_gateway.access import api_keys
from regie_gateway.access.bootstrap import bootstrap
from regie_gateway.app import Gateway
from regie_gateway.testing.backends import FakeBackends


@dataclass(slots=True)
class GatewayHarness:
    """The gateway, not started, with its surroundings and a key for everything."""

    gateway: Gateway
    backends: FakeBackends
    clock: Clock
    database: Database
    token: str

    def client(self, token: str | None = None) -> httpx2.AsyncClient:
        """Returns a client in the same process; the empty token sends none."""
        transport = httpx2.ASGITransport(app=self.gateway.application, raise_app_exceptions=False)
        return httpx2.AsyncClient(transport=transport, base_url="http://regie", headers=self._headers(token))

    def network_client(self, token: str | None = None) -> httpx2.AsyncClient:
        """Returns a client over the loopback, for a gateway that was started."""
        return httpx2.AsyncClient(base_url=self.gateway.http.url, headers=self._headers(token), timeout=20)

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

    def _headers(self, token: str | None) -> dict[str, str]:
        chosen = self.token if token is None else token
        return {"Authorization": f"Bearer {chosen}"} if chosen else {}


class MakeHarness(Protocol):
    """Makes a harness under a clock, with chosen settings."""

    async def __call__(self, clock: Clock, **settings: object) -> GatewayHarness: ...
