"""The events that the publisher handles."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from regie.scheduler.events.v1.scheduler_events_pb2 import PostCancelled, PostDue
from regie_chassis.events.consumer import Subscriptions
from regie_chassis.process.clock import Clock
from regie_networks.contract import Connector

from regie_publisher.deliveries.cancellation import on_post_cancelled
from regie_publisher.deliveries.creation import on_post_due


def subscriptions(connectors: Mapping[str, Connector], *, clock: Clock, wake: Callable[[], None]) -> Subscriptions:
    """Returns the handler of each event. `wake` is called when there may be deliveries to claim."""
    return {
        PostDue: partial(on_post_due, connectors=connectors, clock=clock, wake=wake),
        PostCancelled: partial(on_post_cancelled, clock=clock),
    }
