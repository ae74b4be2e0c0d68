"""What the gateway reacts to: everything, since the outward stream tells all of it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from google.protobuf.message import Message
from regie.audience.events.v1 import audience_events_pb2 as audience
from regie.gateway.events.v1 import gateway_events_pb2 as gateway
from regie.publisher.events.v1 import publisher_events_pb2 as publisher
from regie.scheduler.events.v1 import scheduler_events_pb2 as scheduler
from regie_chassis.consumer import Subscriptions

from regie_gateway.outward import record_events

EVENTS: tuple[type[Message], ...] = (
    audience.ProfileUpdated,
    audience.ProfilesImported,
    audience.SegmentDeleted,
    audience.SegmentEntered,
    audience.SegmentFilled,
    audience.SegmentLeft,
    gateway.ApiKeyCreated,
    gateway.ApiKeyRevoked,
    gateway.WorkspaceUpdated,
    publisher.ChannelBlocked,
    publisher.ChannelConnected,
    publisher.ChannelDisconnected,
    publisher.ChannelNeedsAttention,
    publisher.ChannelRecovered,
    publisher.ChannelShared,
    publisher.DeliveryCancelled,
    publisher.DeliveryFailed,
    publisher.DeliveryMissed,
    publisher.DeliveryProcessing,
    publisher.DeliveryUnknown,
    publisher.EngagementObserved,
    publisher.PostMetricsObserved,
    publisher.PostPublished,
    publisher.PostRemoved,
    scheduler.PostCancelled,
    scheduler.PostCreated,
    scheduler.PostDue,
    scheduler.PostEdited,
    scheduler.PostFinished,
    scheduler.PostMissed,
    scheduler.PostScheduled,
)
TYPES = frozenset(event.DESCRIPTOR.full_name for event in EVENTS)


def subscriptions(wake: Callable[[], None]) -> Subscriptions:
    """Returns the map from event to handler; `wake` tells the streams that the log has grown."""
    return {event: partial(record_events, wake=wake) for event in EVENTS}
