"""Puts the scheduler together: the only module that knows every part."""

from __future__ import annotations

from functools import partial

from regie.scheduler.v1.posts_service_pb2_grpc import add_PostsServiceServicer_to_server
from regie_chassis.data.database import Database
from regie_chassis.events.messaging import Broker
from regie_chassis.process.clock import Clock, SystemClock
from regie_chassis.process.retention import purge_loop
from regie_chassis.process.runtime import App, Loop
from regie_chassis.process.service import Closing, Readiness, Service, open_broker, open_database, open_events, open_rpc

from regie_scheduler import idempotency
from regie_scheduler.events import subscriptions
from regie_scheduler.posts.due import DueLoop
from regie_scheduler.posts.retention import purge_ended_posts
from regie_scheduler.posts.wakeup import DueWakeup, Listener
from regie_scheduler.rpc.posts import PostsServicer
from regie_scheduler.settings import SchedulerSettings

NAME = "scheduler"


def build(settings: SchedulerSettings, *, clock: Clock | None = None, broker: Broker | None = None) -> Service:
    """Returns the scheduler, ready to be started; nothing is connected yet."""
    clock = clock or SystemClock()
    database = open_database(settings, NAME)
    broker = broker or open_broker(settings, NAME)
    wakeup = DueWakeup()
    events = open_events(settings, NAME, subscriptions(), database=database, broker=broker, clock=clock)
    register = [partial(add_PostsServiceServicer_to_server, PostsServicer(database, wakeup, clock))]
    rpc = open_rpc(settings, clock=clock, register=register, readiness=Readiness(database, events.watched))
    app = App(
        NAME,
        parts=[Closing("database", database.close), Closing("broker", broker.close), rpc],
        loops=[
            *events.loops,
            DueLoop(database, wakeup, clock, batch=settings.due_batch),
            Listener(database, wakeup, clock),
            *_purges(settings, database, clock),
        ],
        drain=settings.drain,
    )
    return Service(app, database, broker, events, rpc)


def _purges(settings: SchedulerSettings, database: Database, clock: Clock) -> list[Loop]:
    purge_requests = partial(idempotency.purge, life=settings.request_life)
    loops: list[Loop] = [purge_loop("request purge", purge_requests, database=database, clock=clock)]
    if settings.post_life:
        purge_posts = partial(purge_ended_posts, life=settings.post_life)
        loops.append(purge_loop("post purge", purge_posts, database=database, clock=clock))
    return loops
