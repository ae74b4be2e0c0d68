"""Puts the metrics service together; the only module that knows all its parts."""

from __future__ import annotations

from functools import partial

from regie.metrics.v1.post_metrics_service_pb2_grpc import add_PostMetricsServiceServicer_to_server
from regie_chassis.clock import Clock, SystemClock
from regie_chassis.messaging import Broker
from regie_chassis.runtime import App
from regie_chassis.service import Closing, Readiness, Service, open_broker, open_database, open_events, open_rpc

from regie_metrics.events import subscriptions
from regie_metrics.observations.partitions import Partitions
from regie_metrics.rpc.post_metrics import PostMetricsServicer
from regie_metrics.settings import MetricsSettings

NAME = "metrics"


def build(settings: MetricsSettings, *, clock: Clock | None = None, broker: Broker | None = None) -> Service:
    """Returns the service, not started. Tests give their own clock and broker."""
    clock = clock or SystemClock()
    broker = broker or open_broker(settings, NAME)
    database = open_database(settings, NAME)
    handlers = subscriptions(clock, retention=settings.retention)
    events = open_events(settings, NAME, handlers, database=database, broker=broker, clock=clock)
    register = [partial(add_PostMetricsServiceServicer_to_server, PostMetricsServicer(database, clock))]
    rpc = open_rpc(settings, clock=clock, register=register, readiness=Readiness(database, events.loops))
    app = App(
        NAME,
        parts=[Closing("database", database.close), Closing("broker", broker.close), rpc],
        loops=[*events.loops, Partitions(database, clock, retention=settings.retention)],
        drain=settings.drain,
    )
    return Service(app, database, broker, events, rpc)
