"""A service as one object: what `app.build` returns, what `__main__` runs and what tests look into."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from regie_chassis.clock import Clock
from regie_chassis.consumer import Consumer, Subscriptions
from regie_chassis.database import Database
from regie_chassis.identity import Verifier
from regie_chassis.messaging import Broker
from regie_chassis.nats_broker import NatsBroker, open_nats
from regie_chassis.rpc import RpcServer
from regie_chassis.runtime import App
from regie_chassis.settings import ServiceSettings, WrongSetting, read_key


@dataclass(frozen=True, slots=True)
class Service:
    """The parts of a service that others than itself have to do with."""

    app: App
    database: Database
    broker: Broker
    consumers: Sequence[Consumer] = ()
    subscriptions: Subscriptions = field(default_factory=dict)
    rpc: RpcServer | None = None


@dataclass(slots=True)
class Closing:
    """A part that is open from the first use on and only has to be closed."""

    name: str
    close: Callable[[], Awaitable[None]]

    async def start(self) -> None:
        """Nothing: the first use opens it, so that no service needs another to be up in order to boot."""

    async def stop(self) -> None:
        """Closes it."""
        await self.close()


def open_database(settings: ServiceSettings, name: str) -> Database:
    """Returns the service's database; connects at the first use."""
    return Database(settings.database_url.get_secret_value(), pool_size=settings.database_pool_size, name=name)


def open_broker(settings: ServiceSettings, name: str) -> NatsBroker:
    """Returns the service's broker; connects at the first use."""
    return open_nats(settings, name)


def open_rpc(
    settings: ServiceSettings,
    *,
    clock: Clock,
    register: Callable[..., None],
    consumers: Sequence[Consumer],
) -> RpcServer:
    """Returns the service's gRPC server; it reports NOT_SERVING once a consumer has stopped itself.

    Raises WrongSetting.
    """
    if not settings.identity_public_key.get_secret_value():
        raise WrongSetting("REGIE_IDENTITY_PUBLIC_KEY: give the gateway's public key as a JWK")
    return RpcServer(
        host=settings.rpc_host,
        port=settings.rpc_port,
        verifier=Verifier(read_key(settings.identity_public_key)),
        clock=clock,
        register=[register],
        checks=[lambda: all(consumer.healthy for consumer in consumers)],
    )
