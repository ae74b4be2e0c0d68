"""A post's timeline, composed of the scheduler's and the publisher's changes (ADR 0009)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import datetime
from typing import Any, Literal

from pydantic import Field
from regie.publisher.v1 import deliveries_service_pb2 as publisher_pb
from regie.scheduler.v1 import posts_service_pb2 as scheduler_pb
from regie_chassis.boundary.enums import names_of
from regie_chassis.boundary.errors import RegieError, TimedOut, Unavailable

from regie_gateway.http.context import RequestContext
from regie_gateway.http.fields import View
from regie_gateway.mapping.values import time_value
from regie_gateway.resources.planning.post_views import PostState
from regie_gateway.resources.publishing.deliveries import CAUSES as DELIVERY_CAUSES
from regie_gateway.resources.publishing.deliveries import FAILURE_KINDS, DeliveryState, FailureOrNone
from regie_gateway.resources.publishing.deliveries import STATES as DELIVERY_STATES

Timed = tuple[tuple[int, int, bool], dict[str, Any]]
ROLLED_UP = frozenset({"published", "partially_published", "failed", "missed"})
"""The states of a post that follow from its deliveries; at the same time, the deliveries' entries come first."""
POST_STATES = names_of(scheduler_pb.PostState.DESCRIPTOR)
VARIANT_STATES = names_of(scheduler_pb.VariantState.DESCRIPTOR)
CAUSES = names_of(scheduler_pb.ChangeCause.DESCRIPTOR)


class TimelineEntryView(View):
    """One change of the post's or of a delivery's state."""

    time: datetime | None
    subject: Literal["post", "delivery"]
    channel_id: str = Field(description="Empty when it is the whole post.")
    delivery_id: str
    state: PostState | DeliveryState = Field(description="The new state of the post or of the delivery.")
    cause: str
    attempt: int
    detail: str
    failure_kind: FailureOrNone = Field(description="Why a delivery failed; empty otherwise.")
    network_message: str = Field(description="The network's own words.")
    quiet_end_time: datetime | None = Field(
        description="Until when the call may still take effect; of the newest entry of an unknown delivery."
    )
    next_look_time: datetime | None = Field(description="When the network is looked at next; likewise.")
    trace_id: str
    segments_out: int = Field(description="How many parts of the thread were public then; 0 for the whole post.")


class TimelineView(View):
    """Every change, the oldest first."""

    post_id: str
    complete: bool = Field(description="False when a part did not answer.")
    missing: list[Literal["deliveries"]]
    entries: list[TimelineEntryView]


async def compose_timeline(context: RequestContext, post_id: str) -> dict[str, Any]:
    """Returns the timeline; without the deliveries when the publisher does not answer."""
    changes, deliveries = await asyncio.gather(
        _entries(context, post_id),
        _deliveries(context, post_id),
    )
    reported = {delivery.channel_id for delivery in deliveries or ()}
    entries = [_of_post(entry) for entry in changes if entry.channel_id not in reported]
    entries += [entry for delivery in deliveries or () for entry in _of_delivery(delivery)]
    entries.sort(key=lambda entry: entry[0])
    return {
        "post_id": post_id,
        "complete": deliveries is not None,
        "missing": [] if deliveries is not None else ["deliveries"],
        "entries": [entry for _, entry in entries],
    }


async def _entries(context: RequestContext, post_id: str) -> list[scheduler_pb.TimelineEntry]:
    entries: list[scheduler_pb.TimelineEntry] = []
    token = ""
    while True:
        request = scheduler_pb.GetPostTimelineRequest(post_id=post_id, page_token=token)
        page = await context.call(context.backends.posts.GetPostTimeline, request)
        entries += page.entries
        token = page.next_page_token
        if not token:
            return entries


async def _deliveries(context: RequestContext, post_id: str) -> list[publisher_pb.Delivery] | None:
    deliveries: list[publisher_pb.Delivery] = []
    token = ""
    try:
        while True:
            request = publisher_pb.ListDeliveriesRequest(post_id=post_id, page_token=token)
            page = await context.call(context.backends.deliveries.ListDeliveries, request)
            deliveries += page.deliveries
            token = page.next_page_token
            if not token:
                return deliveries
    except (Unavailable, TimedOut):
        return None
    except RegieError as error:
        if error.retryable or error.http_status >= 500:
            return None
        raise


def _of_post(entry: scheduler_pb.TimelineEntry) -> Timed:
    state = VARIANT_STATES[entry.variant_state] if entry.channel_id else POST_STATES[entry.post_state]
    view = {
        "time": time_value(entry.time),
        "subject": "delivery" if entry.channel_id else "post",
        "channel_id": entry.channel_id,
        "delivery_id": "",
        "state": state,
        "cause": CAUSES[entry.cause],
        "attempt": 0,
        "detail": entry.detail,
        "failure_kind": "",
        "network_message": "",
        "quiet_end_time": None,
        "next_look_time": None,
        "trace_id": entry.trace_id,
        "segments_out": 0,
    }
    rolled_up = not entry.channel_id and state in ROLLED_UP
    return (entry.time.seconds, entry.time.nanos, rolled_up), view


def _of_delivery(delivery: publisher_pb.Delivery) -> Iterator[Timed]:
    public = 0
    for change in delivery.changes:
        newly = delivery.segments[public : change.segments_out]
        public = max(public, change.segments_out)
        addresses = ", ".join(segment.remote_url for segment in newly if segment.remote_url)
        detail = ": ".join(text for text in (_parts(delivery, change), addresses, change.detail) if text)
        newest = delivery.state == publisher_pb.DELIVERY_STATE_UNKNOWN and change == delivery.changes[-1]
        view = {
            "time": time_value(change.time),
            "subject": "delivery",
            "channel_id": delivery.channel_id,
            "delivery_id": delivery.delivery_id,
            "state": DELIVERY_STATES[change.state],
            "cause": DELIVERY_CAUSES[change.cause],
            "attempt": change.attempt,
            "detail": detail,
            "failure_kind": FAILURE_KINDS[delivery.failure_kind]
            if change.state == publisher_pb.DELIVERY_STATE_FAILED
            else "",
            "network_message": change.network_message,
            "quiet_end_time": time_value(delivery.quiet_end_time) if newest else None,
            "next_look_time": time_value(delivery.next_look_time) if newest else None,
            "trace_id": change.trace_id,
            "segments_out": change.segments_out,
        }
        yield (change.time.seconds, change.time.nanos, False), view


def _parts(delivery: publisher_pb.Delivery, change: publisher_pb.DeliveryChange) -> str:
    """Returns how much of a thread was public; nothing for a plain post."""
    count = len(delivery.segments)
    return f"{change.segments_out} of {count} parts are out" if change.segments_out and count > 1 else ""
