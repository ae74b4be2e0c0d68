"""Puts the gateway together; the only file that knows every part."""

from __future__ import annotations

from dataclasses import dataclass

from regie_chassis.boundary.identity import Signer
from regie_chassis.data.object_store import open_object_store
from regie_chassis.data.upload_area import UploadArea
from regie_chassis.events.messaging import Broker
from regie_chassis.process.clock import Clock, SystemClock
from regie_chassis.process.loops import PeriodicLoop
from regie_chassis.process.retention import purge_loop
from regie_chassis.process.runtime import App
from regie_chassis.process.service import Closing, Readiness, Service, open_broker, open_database, open_events
from regie_chassis.process.settings import read_key

from regie_gateway.access import idempotency
from regie_gateway.access.authentication import USE_EVERY, Authenticator
from regie_gateway.access.rate_limit import RateLimit
from regie_gateway.backends import open_backends
from regie_gateway.events import event_log
from regie_gateway.events.event_stream import Broadcaster
from regie_gateway.events.subscriptions import subscriptions
from regie_gateway.http.application import Application, build_application
from regie_gateway.http.body_limit import FileLimits
from regie_gateway.http.connections import ConnectionLimits, TrustedProxies
from regie_gateway.http.context import GatewayContext
from regie_gateway.http.idempotent import fingerprint_key
from regie_gateway.http.server import HttpServer
from regie_gateway.http.uploads import Uploads
from regie_gateway.post_loader import PostLoader
from regie_gateway.resources.catalogue import RESOURCES
from regie_gateway.settings import GatewaySettings

NAME = "gateway"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway(Service):
    """The gateway, with the parts that its callers reach into: tests, and the ones that need its port."""

    http: HttpServer
    application: Application
    authenticator: Authenticator
    broadcaster: Broadcaster
    closings: tuple[Closing, ...]
    """The parts that are open even where the app was never started."""


def build(settings: GatewaySettings, *, clock: Clock | None = None, broker: Broker | None = None) -> Gateway:
    """Returns the gateway, not started. Needs a running event loop, which gRPC's channels belong to."""
    clock = clock or SystemClock()
    database = open_database(settings, NAME)
    broker = broker or open_broker(settings, NAME)
    authenticator = Authenticator(database, clock, wrong_keys_per_minute=settings.wrong_keys_per_minute)
    broadcaster = Broadcaster(
        database,
        authenticator,
        clock,
        streams_per_key=settings.streams_per_key,
        streams_per_workspace=settings.streams_per_workspace,
    )
    area = UploadArea(open_object_store(settings.media_url))
    uploads = Uploads(area, total=settings.uploads, per_workspace=settings.uploads_per_workspace)
    events = open_events(settings, NAME, subscriptions(broadcaster.wake), database=database, broker=broker, clock=clock)
    backends = open_backends(settings.targets)
    key = read_key(settings.identity_private_key)
    context = GatewayContext(
        database=database,
        clock=clock,
        backends=backends,
        post_loader=PostLoader(backends.posts),
        authenticator=authenticator,
        rate_limit=RateLimit("key", per_second=settings.rate_per_second, burst=settings.rate_burst),
        workspace_rate_limit=RateLimit(
            "workspace", per_second=settings.workspace_rate_per_second, burst=settings.workspace_rate_burst
        ),
        signer=Signer(key),
        broadcaster=broadcaster,
        uploads=uploads,
        fingerprint_key=fingerprint_key(key),
        why_not_ready=Readiness(database, events.watched).why_not,
    )
    application = build_application(
        context,
        RESOURCES,
        body_limit=settings.body_limit,
        file_limits=FileLimits(picture=settings.picture_limit, video=settings.video_limit),
        cors_origins=settings.cors_origins,
    )
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
            broadcaster,
            PeriodicLoop("key use", authenticator.write_use, idle=USE_EVERY, clock=clock),
            purge_loop("idempotency purge", idempotency.purge, database=database, clock=clock),
            purge_loop("event log purge", event_log.purge, database=database, clock=clock),
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
        broadcaster=broadcaster,
        closings=closings,
    )
