"""Puts the metrics service together; the only module that knows all its parts."""

from __future__ import annotations

from functools import partial

from regie.metrics.v1.post_metrics_service_pb2_grpc import add_PostMetricsServiceServicer_to_server
from regie_chassis.data.database import Database
from regie_chassis.events.messaging import Broker
from regie_chassis.process.clock import Clock, SystemClock
from regie_chassis.process.loops import PeriodicLoop
from regie_chassis.process.retention import purge_loop
from regie_chassis.process.runtime import App, Loop
from regie_chassis.process.service import Closing, Readiness, Service, open_broker, open_database, open_events, open_rpc

from regie_metrics.events import subscriptions
from regie_metrics.observations.partitions import LOOK_EVERY, Partitions
from regie_metrics.observations.retention import purge_daily, purge_hourly
from regie_metrics.rpc.post_metrics import PostMetricsServicer
from regie_metrics.settings import MetricsSettings

NAME = "metrics"


def build(settings: MetricsSettings, *, clock: Clock | None = None, broker: Broker | None = None) -> Service:
    """Returns the service, not started. Tests give their own clock and broker."""
    clock = clock or SystemClock()
    broker = broker or open_broker(settings, NAME)
    database = open_database(settings, NAME)
    handlers = subscriptions(clock, retention=settings.observation_life)
    events = open_events(settings, NAME, handlers, database=database, broker=broker, clock=clock)
    register = [partial(add_PostMetricsServiceServicer_to_server, PostMetricsServicer(database, clock))]
    rpc = open_rpc(settings, clock=clock, register=register, readiness=Readiness(database, events.watched))
    partitions = Partitions(database, clock, retention=settings.observation_life)
    app = App(
        NAME,
        parts=[Closing("database", database.close), Closing("broker", broker.close), rpc],
        loops=[
            *events.loops,
            PeriodicLoop("partitions", partitions.look, idle=LOOK_EVERY, clock=clock),
            *_purges(settings, database, clock),
        ],
        drain=settings.drain,
    )
    return Service(app, database, broker, events, rpc)


def _purges(settings: MetricsSettings, database: Database, clock: Clock) -> list[Loop]:
    lives = {
        "hourly purge": (purge_hourly, settings.hourly_life),
        "daily purge": (purge_daily, settings.daily_life),
    }
    return [
        purge_loop(name, partial(purge, life=life), database=database, clock=clock)
        for name, (purge, life) in lives.items()
        if life
    ]
