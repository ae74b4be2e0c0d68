"""Puts the audience service together; the only module that knows all its parts."""

from __future__ import annotations

from functools import partial

from regie.audience.v1.profiles_service_pb2_grpc import add_ProfilesServiceServicer_to_server
from regie.audience.v1.segments_service_pb2_grpc import add_SegmentsServiceServicer_to_server
from regie_chassis.data.database import Database
from regie_chassis.events.messaging import Broker
from regie_chassis.process.clock import Clock, SystemClock
from regie_chassis.process.retention import purge_loop
from regie_chassis.process.runtime import App, Loop
from regie_chassis.process.service import Closing, Readiness, Service, open_broker, open_database, open_events, open_rpc

from regie_audience.events import subscriptions
from regie_audience.memberships.retention import purge_left_memberships
from regie_audience.memberships.work import SegmentWork
from regie_audience.rpc.profiles import ProfilesServicer
from regie_audience.rpc.segments import SegmentsServicer
from regie_audience.settings import AudienceSettings

NAME = "audience"


def build(settings: AudienceSettings, *, clock: Clock | None = None, broker: Broker | None = None) -> Service:
    """Returns the service, not started. Tests give their own clock and broker."""
    clock = clock or SystemClock()
    broker = broker or open_broker(settings, NAME)
    database = open_database(settings, NAME)
    handlers = subscriptions(clock)
    events = open_events(settings, NAME, handlers, database=database, broker=broker, clock=clock)
    work = SegmentWork(database, clock)
    register = [
        partial(add_ProfilesServiceServicer_to_server, ProfilesServicer(database, clock)),
        partial(add_SegmentsServiceServicer_to_server, SegmentsServicer(database, clock, work=work)),
    ]
    rpc = open_rpc(settings, clock=clock, register=register, readiness=Readiness(database, events.watched))
    app = App(
        NAME,
        parts=[Closing("database", database.close), Closing("broker", broker.close), rpc],
        loops=[*events.loops, work, *_purges(settings, database, clock)],
        drain=settings.drain,
    )
    return Service(app, database, broker, events, rpc)


def _purges(settings: AudienceSettings, database: Database, clock: Clock) -> list[Loop]:
    if not settings.left_membership_life:
        return []
    purge = partial(purge_left_memberships, life=settings.left_membership_life)
    return [purge_loop("membership purge", purge, database=database, clock=clock)]
