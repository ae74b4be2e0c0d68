"""The map of the events that the gateway reacts to: all of them, since the event log records them all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from google.protobuf.message import Message
from regie_chassis.events.consumer import Subscriptions
from regie_chassis.events.contracts import all_events, options_of

from regie_gateway.events.event_log import record_events

EVENTS: Mapping[type[Message], str | None] = {kind: options_of(kind).scope or None for kind in all_events()}
"""Every event, and the scope that a key needs beside `events:read` to receive it; None for any key."""
TYPES = {event.DESCRIPTOR.full_name: scope for event, scope in EVENTS.items()}


def subscriptions(wake: Callable[[], None]) -> Subscriptions:
    """Returns the map from event to handler; `wake` is called once the log has grown."""
    return {event: partial(record_events, wake=wake) for event in EVENTS}
