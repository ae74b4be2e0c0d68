"""What the gateway reacts to: everything, since the outward stream tells all of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from google.protobuf.message import Message
from regie.audience.events.v1 import audience_events_pb2 as audience
from regie.gateway.events.v1 import gateway_events_pb2 as gateway
from regie.publisher.events.v1 import publisher_events_pb2 as publisher
from regie.scheduler.events.v1 import scheduler_events_pb2 as scheduler
from regie_chassis.consumer import Subscriptions

from regie_gateway.outward import record_events

EVENTS: Mapping[type[Message], str | None] = {
    audience.ProfileUpdated: "profiles:read",
    audience.ProfilesImported: "profiles:read",
    audience.SegmentDeleted: "segments:read",
    audience.SegmentEntered: "profiles:read",
    audience.SegmentFilled: "segments:read",
    audience.SegmentLeft: "profiles:read",
    gateway.ApiKeyCreated: "keys:manage",
    gateway.ApiKeyRevoked: "keys:manage",
    gateway.WorkspaceUpdated: None,
    publisher.ChannelBlocked: "channels:read",
    publisher.ChannelConnected: "channels:read",
    publisher.ChannelDisconnected: "channels:read",
    publisher.ChannelNeedsAttention: "channels:read",
    publisher.ChannelRecovered: "channels:read",
    publisher.ChannelShared: "channels:read",
    publisher.DeliveryCancelled: "posts:read",
    publisher.DeliveryFailed: "posts:read",
    publisher.DeliveryMissed: "posts:read",
    publisher.DeliveryProcessing: "posts:read",
    publisher.DeliveryUnknown: "posts:read",
    publisher.EngagementObserved: "profiles:read",
    publisher.PostMetricsObserved: "metrics:read",
    publisher.PostPublished: "posts:read",
    publisher.PostRemoved: "posts:read",
    scheduler.PostCancelled: "posts:read",
    scheduler.PostCreated: "posts:read",
    scheduler.PostDue: "posts:read",
    scheduler.PostEdited: "posts:read",
    scheduler.PostFinished: "posts:read",
    scheduler.PostMissed: "posts:read",
    scheduler.PostScheduled: "posts:read",
}
"""Every event, and the scope that a key needs beside `events:read` to be told of it; None for any key."""
TYPES = {event.DESCRIPTOR.full_name: scope for event, scope in EVENTS.items()}


def subscriptions(wake: Callable[[], None]) -> Subscriptions:
    """Returns the map from event to handler; `wake` tells the streams that the log has grown."""
    return {event: partial(record_events, wake=wake) for event in EVENTS}
