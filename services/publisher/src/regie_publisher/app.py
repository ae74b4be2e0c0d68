"""Puts the publisher together: the only module that knows every part."""

from __future__ import annotations

import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

import httpx2
from opentelemetry.instrumentation.httpx import HTTPX2ClientInstrumentor
from regie.publisher.v1.channels_service_pb2_grpc import add_ChannelsServiceServicer_to_server
from regie.publisher.v1.deliveries_service_pb2_grpc import add_DeliveriesServiceServicer_to_server
from regie.publisher.v1.media_service_pb2_grpc import add_MediaServiceServicer_to_server
from regie.publisher.v1.networks_service_pb2_grpc import add_NetworksServiceServicer_to_server
from regie_chassis.boundary.ids import new_id
from regie_chassis.data.database import Database
from regie_chassis.data.object_store import MediaStoreUnavailable, open_object_store
from regie_chassis.data.upload_area import UploadArea
from regie_chassis.events.messaging import Broker
from regie_chassis.process.clock import Clock, SystemClock
from regie_chassis.process.loops import PeriodicLoop
from regie_chassis.process.runtime import App, Loop, Part
from regie_chassis.process.service import Closing, Readiness, Service, open_broker, open_database, open_events, open_rpc
from regie_networks.contract import Connector
from regie_networks.egress import guarded_client
from regie_networks.network import Network
from regie_networks.registry import build_connectors, offered_networks

from regie_publisher.channels.accounts import MAX_CHANNELS, Accounts
from regie_publisher.channels.key_rotation import KeyRotation
from regie_publisher.channels.sealing import Keyring
from regie_publisher.deliveries.attempts import Attempts
from regie_publisher.deliveries.lease_rescue import count_unknown, rescue_expired_leases
from regie_publisher.deliveries.outcome_writer import OutcomeWriter
from regie_publisher.deliveries.reconciler import Reconciler
from regie_publisher.deliveries.resolution import Resolver
from regie_publisher.deliveries.retention import DeliveryRetention
from regie_publisher.deliveries.worker import Worker
from regie_publisher.events import subscriptions
from regie_publisher.fairness.hosts import Hosts
from regie_publisher.fairness.sharing import Limits
from regie_publisher.fairness.slots import Slots
from regie_publisher.media.images.pool import PicturePool
from regie_publisher.media.store import MediaStore
from regie_publisher.media.uploads import Uploads
from regie_publisher.metric_collection.collector import MetricCollector
from regie_publisher.rpc.channels import ChannelsServicer
from regie_publisher.rpc.deliveries import DeliveriesServicer
from regie_publisher.rpc.media import MediaServicer
from regie_publisher.rpc.networks import NetworksServicer
from regie_publisher.settings import PublisherSettings

NAME = "publisher"
CHECK_IDLE = timedelta(milliseconds=500)
RESCUE_IDLE = timedelta(seconds=1)
COLLECT_IDLE = timedelta(seconds=1)
COLLECT_PACE = timedelta(milliseconds=500)
REWRAP_IDLE = timedelta(minutes=10)
PURGE_IDLE = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Workers:
    """The parts of one process that work on deliveries, and the parts that they share."""

    hosts: Hosts
    accounts: Accounts
    media_store: MediaStore
    writer: OutcomeWriter
    attempts: Attempts
    worker: Worker
    reconciler: Reconciler
    collector: MetricCollector
    resolver: Resolver


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
    keyring, pictures, objects = _keyring(settings), PicturePool(), open_object_store(settings.media_url)
    workers = build_workers(
        database,
        connectors=networks,
        keyring=keyring,
        media_store=MediaStore(database, objects, pictures),
        hosts=Hosts(max_window=settings.in_flight),
        clock=clock,
        name=f"{socket.gethostname()}/{os.getpid()}/{new_id().hex[-8:]}",
        in_flight=settings.in_flight,
        channel_in_flight=settings.channel_in_flight,
    )
    handlers = subscriptions(networks, clock=clock, wake=workers.worker.wake.set)
    events = open_events(
        settings, NAME, handlers, database=database, broker=broker, clock=clock, calm=workers.worker.calm
    )
    servicers = _servicers(settings, database, workers, connectors=networks, keyring=keyring, clock=clock)
    listing = NetworksServicer(offered, main_servers=_main_servers(settings))
    servicers.append(partial(add_NetworksServiceServicer_to_server, listing))
    media = MediaServicer(Uploads(database, objects, pictures), clock)
    servicers.append(partial(add_MediaServiceServicer_to_server, media))
    rpc = open_rpc(settings, clock=clock, register=servicers, readiness=Readiness(database, events.watched))
    retention = DeliveryRetention(database, clock, life=timedelta(days=settings.delivery_life_days))
    upload_life = timedelta(hours=settings.upload_life_hours)
    purge_uploads = partial(_purge_uploads, UploadArea(objects), upload_life, clock)
    purges = [
        PeriodicLoop("old deliveries", retention.purge_some, idle=PURGE_IDLE, clock=clock),
        PeriodicLoop("old uploads", purge_uploads, idle=PURGE_IDLE, clock=clock),
    ]
    loops = [*events.loops, *_loops(database, workers, connectors=networks, keyring=keyring, clock=clock), *purges]
    closing = (("database", database.close), ("broker", broker.close), ("http client", client.aclose))
    parts: list[Part] = [*(Closing(name, close) for name, close in closing), pictures, rpc]
    return Service(App(NAME, parts=parts, loops=loops, drain=settings.drain), database, broker, events, rpc)


def build_workers(
    database: Database,
    *,
    connectors: Mapping[str, Connector],
    keyring: Keyring,
    media_store: MediaStore,
    hosts: Hosts,
    clock: Clock,
    name: str,
    in_flight: int,
    channel_in_flight: int,
    max_channels: int = MAX_CHANNELS,
) -> Workers:
    """Returns the workers of one process, which claim under `name`."""
    accounts = Accounts(database, keyring, clock, worker=name, max_channels=max_channels)
    writer = OutcomeWriter(database, clock)
    attempts = Attempts(connectors=connectors, accounts=accounts, media_store=media_store, writer=writer, clock=clock)
    limits = Limits(in_flight, channel_in_flight)
    worker = Worker(database, attempts, accounts, hosts, clock, worker=name, limits=limits)
    reconciler = Reconciler(
        database,
        connectors=connectors,
        accounts=accounts,
        media_store=media_store,
        writer=writer,
        clock=clock,
        worker=name,
        wake=worker.wake.set,
        hosts=hosts,
    )
    collector = MetricCollector(
        database, connectors=connectors, accounts=accounts, hosts=hosts, clock=clock, delivery_slots=worker.slots
    )
    resolver = Resolver(database, connectors=connectors, accounts=accounts, media_store=media_store, clock=clock)
    return Workers(hosts, accounts, media_store, writer, attempts, worker, reconciler, collector, resolver)


def _servicers(
    settings: PublisherSettings,
    database: Database,
    workers: Workers,
    *,
    connectors: Mapping[str, Connector],
    keyring: Keyring,
    clock: Clock,
) -> list[Callable[[Any], None]]:
    channels = ChannelsServicer(
        database,
        connectors=connectors,
        keyring=keyring,
        hosts=workers.hosts,
        allowed_hosts=settings.allowed_hosts,
        clock=clock,
    )
    return [
        partial(add_ChannelsServiceServicer_to_server, channels),
        partial(add_DeliveriesServiceServicer_to_server, DeliveriesServicer(database, workers.resolver)),
    ]


def _loops(
    database: Database,
    workers: Workers,
    *,
    connectors: Mapping[str, Connector],
    keyring: Keyring,
    clock: Clock,
) -> list[Loop]:
    rescue, rotation = partial(_rescue, database, connectors, clock), KeyRotation(database, keyring)
    reconciler, collector = workers.reconciler, workers.collector
    checks, lookups = reconciler.check_slots, reconciler.lookup_slots
    return [
        workers.worker,
        _slots_loop("processing deliveries", reconciler.start_checks, checks, idle=CHECK_IDLE, clock=clock),
        _slots_loop("unknown deliveries", reconciler.start_lookups, lookups, idle=CHECK_IDLE, clock=clock),
        PeriodicLoop("expired leases", rescue, idle=RESCUE_IDLE, clock=clock),
        _slots_loop(
            "observations", collector.start_due, collector.slots, idle=COLLECT_IDLE, clock=clock, pace=COLLECT_PACE
        ),
        PeriodicLoop("master key rotation", rotation.rewrap_some, idle=REWRAP_IDLE, clock=clock),
    ]


def _slots_loop(
    name: str,
    start: Callable[[], Awaitable[int]],
    slots: Slots,
    *,
    idle: timedelta,
    clock: Clock,
    pace: timedelta = timedelta(0),
) -> PeriodicLoop:
    """Returns the loop that starts work in `slots`, and is called again as soon as one of them becomes free."""
    return PeriodicLoop(name, start, idle=idle, clock=clock, wake=slots.wake, pace=pace, begun=slots)


async def _rescue(database: Database, networks: Mapping[str, Connector], clock: Clock) -> int:
    quiets = {name: connector.quiet for name, connector in networks.items()}
    async with database.transaction() as session:
        rescued = await rescue_expired_leases(session, quiets=quiets, now=clock.now())
    async with database.reading() as session:
        await count_unknown(session)
    return rescued


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


async def _purge_uploads(area: UploadArea, life: timedelta, clock: Clock) -> int:
    try:
        return await area.purge(now=clock.now(), life=life)
    except MediaStoreUnavailable:  # is logged; what is old now is old in an hour, too
        return 0
