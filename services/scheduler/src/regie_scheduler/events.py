"""Subscriptions of the scheduler."""

from __future__ import annotations

from regie.gateway.events.v1.gateway_events_pb2 import WorkspaceUpdated
from regie.publisher.events.v1.publisher_events_pb2 import (
    DeliveryCancelled,
    DeliveryFailed,
    DeliveryMissed,
    DeliveryProcessing,
    DeliveryUnknown,
    PostPublished,
    PostRemoved,
)
from regie_chassis.events.consumer import Subscriptions

from regie_scheduler.policies.workspaces import on_workspace_updated
from regie_scheduler.posts.delivery_events import (
    on_delivery_cancelled,
    on_delivery_failed,
    on_delivery_missed,
    on_delivery_processing,
    on_delivery_unknown,
    on_post_published,
    on_post_removed,
)


def subscriptions() -> Subscriptions:
    """Returns the map of events to handlers."""
    return {
        PostPublished: on_post_published,
        PostRemoved: on_post_removed,
        DeliveryProcessing: on_delivery_processing,
        DeliveryFailed: on_delivery_failed,
        DeliveryUnknown: on_delivery_unknown,
        DeliveryMissed: on_delivery_missed,
        DeliveryCancelled: on_delivery_cancelled,
        WorkspaceUpdated: on_workspace_updated,
    }
