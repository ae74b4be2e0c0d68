"""A service as one object: `app.build` returns it, `__main__` runs it and tests look into it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import grpc

from regie_chassis.boundary.identity import Verifier
from regie_chassis.boundary.rpc import RpcServer
from regie_chassis.data.database import Database, is_outage
from regie_chassis.events.consumer import Consumer, Subscriptions, consumers
from regie_chassis.events.messaging import Broker, stream_spec
from regie_chassis.events.nats_broker import NatsBroker, open_nats
from regie_chassis.events.relay import Relay
from regie_chassis.process.clock import Clock
from regie_chassis.process.retention import messaging_purges
from regie_chassis.process.runtime import App, Loop
from regie_chassis.process.settings import ServiceSettings, WrongSetting, read_key


@dataclass(frozen=True, slots=True)
class Service:
    """The parts of a service that others than itself have to do with."""

    app: App
    database: Database
    broker: Broker
    events: EventLoops
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


class Watched(Protocol):
    """A loop that knows when another replica could do better."""

    @property
    def name(self) -> str: ...

    @property
    def healthy(self) -> bool: ...


class Readiness:
    """Whether this process should be given work.

    Not before the database has answered once, and not while a loop of this process is stuck although its servers
    answer. An outage that all replicas share turns none of them red: that would take away the parts that still work
    (ADR 0019).
    """

    def __init__(self, database: Database, watched: Sequence[Watched]) -> None:
        self._database = database
        self._watched = watched
        self._reached = False

    async def why_not(self) -> str:
        """Returns the reasons why the process is not ready; empty when it is ready."""
        if not self._reached:
            try:
                await self._database.ping()
            except Exception as error:  # broad: an outage is the answer here
                if not is_outage(error):
                    raise
                return "the database has not answered yet"
            self._reached = True
        return next((f"{one.name}: stopped or stuck; see the log" for one in self._watched if not one.healthy), "")

    async def is_ready(self) -> bool:
        """True when nothing keeps the process from being ready."""
        return not await self.why_not()


@dataclass(frozen=True, slots=True)
class EventLoops:
    """The loops by which a service reads and publishes events. It has all of them from its first day on."""

    consumers: Sequence[Consumer]
    subscriptions: Subscriptions
    relay: Relay
    purges: Sequence[Loop]

    @property
    def loops(self) -> list[Loop]:
        """All of them, for the app."""
        return [*self.watched, *self.purges]

    @property
    def watched(self) -> list[Consumer | Relay]:
        """The loops that the readiness of the process depends on."""
        return [*self.consumers, self.relay]


def open_events(
    settings: ServiceSettings,
    name: str,
    subscriptions: Subscriptions,
    *,
    database: Database,
    broker: Broker,
    clock: Clock,
    calm: asyncio.Event | None = None,
) -> EventLoops:
    """Returns the loops that hand events to `subscriptions`, publish staged events, and purge old rows.

    While `calm` is not set, work that is due goes before the events about it.
    """
    readers = consumers(name, subscriptions, database=database, broker=broker, clock=clock)
    stream = stream_spec(name, replicas=settings.stream_replicas)
    relay = Relay(database, broker, stream, clock, life=settings.lives.outbox, calm=calm)
    purges = messaging_purges(settings.lives, database=database, clock=clock)
    return EventLoops(readers, subscriptions, relay, purges)


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
    register: Sequence[Callable[[grpc.aio.Server], None]],
    readiness: Readiness,
) -> RpcServer:
    """Returns the service's gRPC server; it reports NOT_SERVING while the service is not ready.

    Raises WrongSetting.
    """
    if not settings.identity_public_key.get_secret_value():
        raise WrongSetting("REGIE_IDENTITY_PUBLIC_KEY: give the gateway's public key as a JWK")
    return RpcServer(
        host=settings.rpc_host,
        port=settings.rpc_port,
        prefix=f"{settings.model_config.get('env_prefix', '')}RPC",
        verifier=Verifier(read_key(settings.identity_public_key)),
        clock=clock,
        register=register,
        checks=[readiness.is_ready],
    )
