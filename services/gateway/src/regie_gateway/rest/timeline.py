"""A post's timeline, put together from what the scheduler and the publisher each know."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import datetime
from typing import Any, Literal

from pydantic import Field
from regie.publisher.v1 import deliveries_service_pb2 as publisher_pb
from regie.scheduler.v1 import posts_service_pb2 as scheduler_pb
from regie_chassis.errors import RegieError, TimedOut, Unavailable

from regie_gateway.rest.delivery_json import CAUSES, FAILURE_KINDS, STATES, DeliveryState, FailureOrNone
from regie_gateway.rest.edge import Call
from regie_gateway.rest.fields import View, show_time
from regie_gateway.rest.post_json import PostState

Timed = tuple[tuple[int, int, bool], dict[str, Any]]
ROLLED_UP = frozenset({"published", "partially_published", "failed", "missed"})
"""What a post is because of its deliveries: at the same moment, their entries come before."""


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


async def compose_timeline(call: Call, post_id: str) -> dict[str, Any]:
    """Returns the timeline; without the deliveries when the publisher does not answer."""
    changes, deliveries = await asyncio.gather(
        _entries(call, post_id),
        _deliveries(call, post_id),
    )
    told = {delivery.channel_id for delivery in deliveries or ()}
    entries = [_of_post(entry) for entry in changes if entry.channel_id not in told]
    entries += [entry for delivery in deliveries or () for entry in _of_delivery(delivery)]
    entries.sort(key=lambda entry: entry[0])
    return {
        "post_id": post_id,
        "complete": deliveries is not None,
        "missing": [] if deliveries is not None else ["deliveries"],
        "entries": [entry for _, entry in entries],
    }


async def _entries(call: Call, post_id: str) -> list[scheduler_pb.TimelineEntry]:
    found: list[scheduler_pb.TimelineEntry] = []
    token = ""
    while True:
        asked = scheduler_pb.GetPostTimelineRequest(post_id=post_id, page_token=token)
        page = await call.ask(call.edge.backends.posts.GetPostTimeline, asked)
        found += page.entries
        token = page.next_page_token
        if not token:
            return found


async def _deliveries(call: Call, post_id: str) -> list[publisher_pb.Delivery] | None:
    found: list[publisher_pb.Delivery] = []
    token = ""
    try:
        while True:
            asked = publisher_pb.ListDeliveriesRequest(post_id=post_id, page_token=token)
            page = await call.ask(call.edge.backends.deliveries.ListDeliveries, asked)
            found += page.deliveries
            token = page.next_page_token
            if not token:
                return found
    except (Unavailable, TimedOut):
        return None
    except RegieError as error:
        if error.retryable or error.http_status >= 500:
            return None
        raise


def _of_post(entry: scheduler_pb.TimelineEntry) -> Timed:
    shown = {
        "time": show_time(entry.time),
        "subject": "delivery" if entry.channel_id else "post",
        "channel_id": entry.channel_id,
        "delivery_id": "",
        "state": entry.state,
        "cause": entry.cause,
        "attempt": 0,
        "detail": entry.detail,
        "failure_kind": "",
        "network_message": "",
        "quiet_end_time": None,
        "next_look_time": None,
        "trace_id": entry.trace_id,
        "segments_out": 0,
    }
    rolled_up = not entry.channel_id and entry.state in ROLLED_UP
    return (entry.time.seconds, entry.time.nanos, rolled_up), shown


def _of_delivery(delivery: publisher_pb.Delivery) -> Iterator[Timed]:
    public = 0
    for change in delivery.changes:
        newly = delivery.segments[public : change.segments_out]
        public = max(public, change.segments_out)
        addresses = ", ".join(segment.remote_url for segment in newly if segment.remote_url)
        detail = ": ".join(words for words in (_parts(delivery, change), addresses, change.detail) if words)
        newest = delivery.state == publisher_pb.DELIVERY_STATE_UNKNOWN and change == delivery.changes[-1]
        shown = {
            "time": show_time(change.time),
            "subject": "delivery",
            "channel_id": delivery.channel_id,
            "delivery_id": delivery.delivery_id,
            "state": STATES[change.state],
            "cause": CAUSES[change.cause],
            "attempt": change.attempt,
            "detail": detail,
            "failure_kind": FAILURE_KINDS[delivery.failure_kind]
            if change.state == publisher_pb.DELIVERY_STATE_FAILED
            else "",
            "network_message": change.network_message,
            "quiet_end_time": show_time(delivery.quiet_end_time) if newest else None,
            "next_look_time": show_time(delivery.next_look_time) if newest else None,
            "trace_id": change.trace_id,
            "segments_out": change.segments_out,
        }
        yield (change.time.seconds, change.time.nanos, False), shown


def _parts(delivery: publisher_pb.Delivery, change: publisher_pb.DeliveryChange) -> str:
    """Returns how much of a thread was public; nothing for a plain post."""
    count = len(delivery.segments)
    return f"{change.segments_out} of {count} parts are out" if change.segments_out and count > 1 else ""
