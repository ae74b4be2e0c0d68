"""Deliveries between JSON and messages."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationInfo
from regie.publisher.events.v1.publisher_events_pb2 import FailureKind as FailureKindNumber
from regie.publisher.v1 import deliveries_service_pb2 as pb
from regie_chassis.enums import names_of
from regie_chassis.validation import refusal

from regie_gateway.rest.fields import Body, View, show_time, without_default
from regie_gateway.rest.post_json import SegmentState

STATES = names_of(pb.DeliveryState.DESCRIPTOR)
SEGMENT_STATES = names_of(pb.DeliverySegmentState.DESCRIPTOR)
FAILURE_KINDS = names_of(FailureKindNumber.DESCRIPTOR)
# Two causes are events, and go by their names.
CAUSES = {
    **names_of(pb.DeliveryCause.DESCRIPTOR),
    pb.DELIVERY_CAUSE_POST_DUE: "PostDue",
    pb.DELIVERY_CAUSE_POST_CANCELLED: "PostCancelled",
}

# Both lists are those of the publisher (tests/policy/test_limits.py).
DeliveryState = Literal[
    "pending",
    "claimed",
    "publishing",
    "processing",
    "published",
    "failed",
    "unknown",
    "missed",
    "cancelled",
    "removed",  # in the changes only
]
FailureKind = Literal[
    "auth_expired",
    "content_rejected",
    "duplicate_content",
    "media_rejected",
    "rate_limited",
    "network_unreachable",
    "platform_error",
    "unsupported",
    "internal",
]
FailureOrNone = Literal[FailureKind, ""]


def _of_a_published(remote_url: str, info: ValidationInfo) -> str:
    if remote_url and info.data.get("published") is False:
        raise refusal("what is not published has no address; leave remote_url out")
    return remote_url


class ResolveDelivery(Body):
    """What a person found on the network."""

    published: bool = Field(
        description="True when it is there, false when it is not and may be sent again; refused before quiet_end_time."
    )
    remote_url: Annotated[str, AfterValidator(_of_a_published)] = Field(
        default="",
        max_length=2048,
        description="Where it is there; may be left out.",
        json_schema_extra=without_default,
    )


class DeliveryChangeView(View):
    """One change of a delivery's state."""

    time: datetime | None
    state: DeliveryState
    cause: str
    attempt: int
    network_message: str = Field(description="The network's own words.")
    trace_id: str
    detail: str = Field(description="Régie's own words.")
    segments_out: int = Field(description="How many parts were public then.")


class DeliverySegmentView(View):
    """One part of a delivery."""

    state: SegmentState | Literal["claimed", "publishing"]
    remote_id: str
    remote_url: str


class DeliveryView(View):
    """One post on its way to one channel."""

    delivery_id: str
    post_id: str
    channel_id: str
    revision: int
    state: DeliveryState
    remote_id: str
    remote_url: str
    failure_kind: FailureOrNone = Field(description="Why it failed; empty otherwise.")
    network_message: str = Field(description="The network's own words.")
    detail: str = Field(description="Régie's own words, where it was not the network that refused.")
    segments: list[DeliverySegmentView]
    call_end_time: datetime | None = Field(
        description="The end of the last call that may still take effect; null where none may."
    )
    quiet_end_time: datetime | None = Field(
        description="Until when it may. Before that, nobody can settle the delivery as not published."
    )
    next_look_time: datetime | None = Field(
        description="When the network is looked at next, of an unknown delivery; null where only a person can tell."
    )
    changes: list[DeliveryChangeView]


def show_delivery(delivery: pb.Delivery) -> dict[str, Any]:
    """Returns a delivery as JSON."""
    return {
        "delivery_id": delivery.delivery_id,
        "post_id": delivery.post_id,
        "channel_id": delivery.channel_id,
        "revision": delivery.revision,
        "state": STATES[delivery.state],
        "remote_id": delivery.remote_id,
        "remote_url": delivery.remote_url,
        "failure_kind": FAILURE_KINDS[delivery.failure_kind],
        "network_message": delivery.network_message,
        "call_end_time": show_time(delivery.call_end_time),
        "quiet_end_time": show_time(delivery.quiet_end_time),
        "next_look_time": show_time(delivery.next_look_time),
        "detail": delivery.detail,
        "segments": [
            {"state": SEGMENT_STATES[segment.state], "remote_id": segment.remote_id, "remote_url": segment.remote_url}
            for segment in delivery.segments
        ],
        "changes": [
            {
                "time": show_time(change.time),
                "state": STATES[change.state],
                "cause": CAUSES[change.cause],
                "attempt": change.attempt,
                "network_message": change.network_message,
                "trace_id": change.trace_id,
                "detail": change.detail,
                "segments_out": change.segments_out,
            }
            for change in delivery.changes
        ],
    }
