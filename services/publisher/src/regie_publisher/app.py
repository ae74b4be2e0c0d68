"""Puts the publisher together: the only module that knows every part."""

from __future__ import annotations

import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from functools import partial
from pathlib import Path
from urllib.parse import unquote, urlsplit

import httpx2
from obstore.store import LocalStore, ObjectStore, from_url
from opentelemetry.instrumentation.httpx import HTTPX2ClientInstrumentor
from regie.publisher.v1.channels_service_pb2_grpc import add_ChannelsServiceServicer_to_server
from regie.publisher.v1.deliveries_service_pb2_grpc import add_DeliveriesServiceServicer_to_server
from regie.publisher.v1.media_service_pb2_grpc import add_MediaServiceServicer_to_server
from regie.publisher.v1.networks_service_pb2_grpc import add_NetworksServiceServicer_to_server
from regie_chassis.clock import Clock, SystemClock
from regie_chassis.database import Database
from regie_chassis.ids import new_id
from regie_chassis.loops import PeriodicLoop
from regie_chassis.messaging import Broker
from regie_chassis.runtime import App, Loop, Part
from regie_chassis.service import Closing, Readiness, Service, open_broker, open_database, open_events, open_rpc
from regie_chassis.settings import WrongSetting
from regie_networks.contract import Connector
from regie_networks.egress import guarded_client
from regie_networks.network import Network
from regie_networks.registry import build_connectors, offered_networks

from regie_publisher.accounts import Accounts
from regie_publisher.channels import Rotation
from regie_publisher.deliveries.attempts import Attempts
from regie_publisher.deliveries.ledger import Ledger
from regie_publisher.deliveries.pursuit import Pursuit
from regie_publisher.deliveries.resolving import Resolver
from regie_publisher.deliveries.sweeping import count_unknown, sweep
from regie_publisher.deliveries.worker import Worker
from regie_publisher.events import subscriptions
from regie_publisher.hosts import Hosts
from regie_publisher.media import Library
from regie_publisher.observations import Observer
from regie_publisher.pictures.pool import PicturePool
from regie_publisher.rpc.channels import ChannelsServicer
from regie_publisher.rpc.deliveries import DeliveriesServicer
from regie_publisher.rpc.media import MediaServicer
from regie_publisher.rpc.networks import NetworksServicer
from regie_publisher.sealing import Keyring
from regie_publisher.settings import PublisherSettings
from regie_publisher.shares import Slots

NAME = "publisher"
CHECK_IDLE = timedelta(milliseconds=500)
SWEEP_IDLE = timedelta(seconds=1)
OBSERVE_IDLE = timedelta(seconds=1)
OBSERVE_PACE = timedelta(milliseconds=500)
REWRAP_IDLE = timedelta(minutes=10)


def build(
    settings: PublisherSettings,
    *,
    clock: Clock | None = None,
    broker: Broker | None = None,
    connectors: Mapping[str, Connector] | None = None,
) -> Service:
    """Returns the service; nothing connects before its first use."""
    clock = clock or SystemClock()
    # Every loop holds a connection only while it reads or writes, never across a call.
    database = open_database(settings, NAME)
    broker = broker or open_broker(settings, NAME)
    client = _client(settings)
    offered = offered_networks(stand_ins=settings.sandbox_enabled)
    networks = _connectors(settings, offered, client) if connectors is None else connectors
    keyring = _keyring(settings)
    pictures = PicturePool()
    library = Library(database, _store(settings.media_url), pictures)
    name = f"{socket.gethostname()}/{os.getpid()}/{new_id().hex[-8:]}"
    accounts = Accounts(database, keyring, clock, worker=name)
    ledger = Ledger(database, clock)
    attempts = Attempts(connectors=networks, accounts=accounts, library=library, ledger=ledger, clock=clock)
    hosts = Hosts(max_window=settings.in_flight)
    worker = Worker(
        database,
        attempts,
        accounts,
        hosts,
        clock,
        worker=name,
        in_flight=settings.in_flight,
        channel_in_flight=settings.channel_in_flight,
    )
    pursuit = Pursuit(
        database,
        connectors=networks,
        accounts=accounts,
        library=library,
        ledger=ledger,
        clock=clock,
        worker=name,
        wake=worker.wake.set,
        hosts=hosts,
    )
    observer = Observer(database, connectors=networks, accounts=accounts, hosts=hosts, clock=clock)
    handlers = subscriptions(networks, clock=clock, wake=worker.wake.set)
    events = open_events(settings, NAME, handlers, database=database, broker=broker, clock=clock)
    resolver = Resolver(database, connectors=networks, accounts=accounts, library=library, clock=clock)
    channels = ChannelsServicer(
        database,
        connectors=networks,
        keyring=keyring,
        hosts=hosts,
        allowed_hosts=settings.allowed_hosts,
        clock=clock,
    )
    rpc = open_rpc(
        settings,
        clock=clock,
        register=[
            partial(add_ChannelsServiceServicer_to_server, channels),
            partial(add_MediaServiceServicer_to_server, MediaServicer(library, clock)),
            partial(add_DeliveriesServiceServicer_to_server, DeliveriesServicer(database, resolver)),
            partial(
                add_NetworksServiceServicer_to_server,
                NetworksServicer(offered, main_servers=_main_servers(settings)),
            ),
        ],
        readiness=Readiness(database, events.watched),
    )
    loops: list[Loop] = [
        *events.loops,
        worker,
        _slots_loop("processing deliveries", pursuit.begin_checks, pursuit.checks, idle=CHECK_IDLE, clock=clock),
        _slots_loop("unknown deliveries", pursuit.begin_finds, pursuit.finds, idle=CHECK_IDLE, clock=clock),
        PeriodicLoop("expired leases", partial(_sweep, database, networks, clock), idle=SWEEP_IDLE, clock=clock),
        _slots_loop(
            "observations", observer.begin_due, observer.slots, idle=OBSERVE_IDLE, clock=clock, pace=OBSERVE_PACE
        ),
        PeriodicLoop("master key rotation", Rotation(database, keyring).rewrap_some, idle=REWRAP_IDLE, clock=clock),
    ]
    parts: list[Part] = [
        Closing("database", database.close),
        Closing("broker", broker.close),
        Closing("http client", client.aclose),
        pictures,
        rpc,
    ]
    app = App(NAME, parts=parts, loops=loops, drain=settings.drain)
    return Service(app, database, broker, events, rpc)


def _slots_loop(
    name: str,
    begin: Callable[[], Awaitable[int]],
    slots: Slots,
    *,
    idle: timedelta,
    clock: Clock,
    pace: timedelta = timedelta(0),
) -> PeriodicLoop:
    """Returns the loop that begins work in `slots`, and is called again as soon as one of them becomes free."""
    return PeriodicLoop(name, begin, idle=idle, clock=clock, wake=slots.wake, pace=pace, begun=slots)


async def _sweep(database: Database, networks: Mapping[str, Connector], clock: Clock) -> int:
    quiets = {name: connector.quiet for name, connector in networks.items()}
    async with database.transaction() as session:
        swept = await sweep(session, quiets=quiets, now=clock.now())
    async with database.reading() as session:
        await count_unknown(session)
    return swept


def _client(settings: PublisherSettings) -> httpx2.AsyncClient:
    client = guarded_client(allowed_hosts=settings.allowed_hosts, per_host=settings.in_flight)
    HTTPX2ClientInstrumentor.instrument_client(client)
    return client


def _connectors(
    settings: PublisherSettings, networks: Mapping[str, Network], client: httpx2.AsyncClient
) -> dict[str, Connector]:
    quiet = timedelta(seconds=settings.quiet_seconds)
    return build_connectors(networks, client, quiet=quiet, main_servers=_main_servers(settings))


def _main_servers(settings: PublisherSettings) -> Mapping[str, str]:
    return {"sandbox": settings.sandbox_url}


def _keyring(settings: PublisherSettings) -> Keyring:
    return Keyring(settings.master_key.get_secret_value(), [old.get_secret_value() for old in settings.old_master_keys])


def _store(url: str) -> ObjectStore:
    parts = urlsplit(url)
    if parts.scheme != "file":
        return from_url(url)
    folder = Path(unquote(parts.path))
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # the pictures of all workspaces
    except OSError as error:
        raise WrongSetting(f"PUBLISHER_MEDIA_URL: the folder cannot be made: {error.strerror}") from error
    return LocalStore(folder)
