"""Puts the scheduler together: the only module that knows every part."""

from __future__ import annotations

import grpc
from regie.scheduler.v1.scheduler_service_pb2_grpc import add_SchedulerServiceServicer_to_server
from regie_chassis.clock import Clock, SystemClock
from regie_chassis.consumer import consumers
from regie_chassis.messaging import Broker, stream_spec
from regie_chassis.relay import Relay
from regie_chassis.runtime import App
from regie_chassis.service import Closing, Readiness, Service, open_broker, open_database, open_rpc

from regie_scheduler.alarm import Alarm, Listener
from regie_scheduler.due import DueLoop
from regie_scheduler.events import SUBSCRIPTIONS
from regie_scheduler.requests import Purge
from regie_scheduler.rpc import SchedulerServicer
from regie_scheduler.settings import SchedulerSettings

NAME = "scheduler"


def build(settings: SchedulerSettings, *, clock: Clock | None = None, broker: Broker | None = None) -> Service:
    """Returns the scheduler, ready to be started; nothing is connected yet."""
    clock = clock or SystemClock()
    database = open_database(settings, NAME)
    broker = broker or open_broker(settings, NAME)
    alarm = Alarm()
    reading = consumers(NAME, SUBSCRIPTIONS, database=database, broker=broker, clock=clock)
    relay = Relay(database, broker, stream_spec(NAME, replicas=settings.stream_replicas), clock)
    servicer = SchedulerServicer(database, alarm, clock)

    def register(server: grpc.aio.Server) -> None:
        add_SchedulerServiceServicer_to_server(servicer, server)

    rpc = open_rpc(settings, clock=clock, register=register, readiness=Readiness(database, [*reading, relay]))
    app = App(
        NAME,
        parts=[Closing("database", database.close), Closing("broker", broker.close), rpc],
        loops=[
            DueLoop(database, alarm, clock, batch=settings.due_batch),
            Listener(database, alarm, clock),
            relay,
            *reading,
            Purge(database, clock),
        ],
        drain=settings.drain,
    )
    return Service(app=app, database=database, broker=broker, consumers=reading, subscriptions=SUBSCRIPTIONS, rpc=rpc)
