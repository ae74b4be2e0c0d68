"""Puts the gateway together; the only file that knows every part."""

from __future__ import annotations

from dataclasses import dataclass

from regie_chassis.clock import Clock, SystemClock
from regie_chassis.identity import Signer
from regie_chassis.loops import PeriodicLoop
from regie_chassis.messaging import Broker
from regie_chassis.retention import purge_loop
from regie_chassis.runtime import App
from regie_chassis.service import Closing, Readiness, Service, open_broker, open_database, open_events
from regie_chassis.settings import read_key

from regie_gateway import idempotency, outward
from regie_gateway.authentication import USE_EVERY, Authenticator
from regie_gateway.backends import open_backends
from regie_gateway.events import subscriptions
from regie_gateway.rate_limit import RateLimit
from regie_gateway.reads import PostReads
from regie_gateway.rest.application import Application, build_application
from regie_gateway.rest.connections import ConnectionLimits, TrustedProxies
from regie_gateway.rest.edge import Edge, secret_of
from regie_gateway.rest.server import HttpServer
from regie_gateway.settings import GatewaySettings
from regie_gateway.stream import Feed

NAME = "gateway"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway(Service):
    """The gateway with its parts that tests, and those who ask for its port, have to do with."""

    http: HttpServer
    application: Application
    authenticator: Authenticator
    feed: Feed
    closings: tuple[Closing, ...]
    """What is open even where the app was never started."""


def build(settings: GatewaySettings, *, clock: Clock | None = None, broker: Broker | None = None) -> Gateway:
    """Returns the gateway, not started. Needs a running event loop, which gRPC's channels belong to."""
    clock = clock or SystemClock()
    database = open_database(settings, NAME)
    broker = broker or open_broker(settings, NAME)
    authenticator = Authenticator(database, clock, wrong_keys_per_minute=settings.wrong_keys_per_minute)
    feed = Feed(
        database,
        authenticator,
        clock,
        streams_per_key=settings.streams_per_key,
        streams_per_workspace=settings.streams_per_workspace,
    )
    events = open_events(settings, NAME, subscriptions(feed.wake), database=database, broker=broker, clock=clock)
    backends = open_backends(settings.targets)
    key = read_key(settings.identity_private_key)
    edge = Edge(
        database=database,
        clock=clock,
        backends=backends,
        post_reads=PostReads(backends.posts),
        authenticator=authenticator,
        rate_limit=RateLimit("key", per_second=settings.rate_per_second, burst=settings.rate_burst),
        workspace_rate_limit=RateLimit(
            "workspace", per_second=settings.workspace_rate_per_second, burst=settings.workspace_rate_burst
        ),
        signer=Signer(key),
        feed=feed,
        secret=secret_of(key),
        why_not_ready=Readiness(database, events.watched).why_not,
    )
    application = build_application(edge, body_limit=settings.body_limit, media_limit=settings.media_limit)
    limits = ConnectionLimits(
        total=settings.connections,
        per_address=settings.connections_per_address,
        proxies=TrustedProxies(settings.trusted_proxies),
    )
    http = HttpServer(
        application, host=settings.http_host, port=settings.http_port, drain=settings.drain, limits=limits
    )
    closings = (Closing("database", database.close), Closing("backends", backends.close))
    app = App(
        NAME,
        parts=[*closings, Closing("broker", broker.close), http],
        loops=[
            *events.loops,
            feed,
            PeriodicLoop("key use", authenticator.write_use, idle=USE_EVERY, clock=clock),
            purge_loop("idempotency purge", idempotency.purge, database=database, clock=clock),
            purge_loop("event log purge", outward.purge, database=database, clock=clock),
        ],
        drain=settings.drain,
    )
    return Gateway(
        app=app,
        database=database,
        broker=broker,
        events=events,
        http=http,
        application=application,
        authenticator=authenticator,
        feed=feed,
        closings=closings,
    )
