"""Deliveries: a post on its way to one channel."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationInfo
from regie.publisher.events.v1.publisher_events_pb2 import FailureKind as FailureKindNumber
from regie.publisher.v1 import deliveries_service_pb2 as pb
from regie_chassis.boundary.enums import names_of
from regie_chassis.boundary.validation import refusal

from regie_gateway.http.context import RequestContext
from regie_gateway.http.fields import Body, DeliveryId, View, without_default
from regie_gateway.http.operations import Operations
from regie_gateway.mapping.overrides import From

operations = Operations("posts")

STATES = names_of(pb.DeliveryState.DESCRIPTOR)
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


SegmentState = Literal[
    "waiting", "pending", "processing", "published", "failed", "unknown", "missed", "cancelled", "not_sent"
]


def _of_a_published(remote_url: str, info: ValidationInfo) -> str:
    if remote_url and info.data.get("published") is False:
        raise refusal("what is not published has no address; leave remote_url out")
    return remote_url


class ResolveDelivery(Body):
    """The finding of a person who looked at the network."""

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
    cause: Annotated[str, From(lambda change: CAUSES[change.cause])]
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
    call_end_time: datetime | None = Field(
        description="The end of the last call that may still take effect; null where none may."
    )
    quiet_end_time: datetime | None = Field(
        description="Until when it may. Before that, nobody can settle the delivery as not published."
    )
    next_look_time: datetime | None = Field(
        description="When an unknown delivery is next looked up at the network; null where only a person can settle it."
    )
    detail: str = Field(description="Régie's own words, where it was not the network that refused.")
    segments: list[DeliverySegmentView]
    changes: list[DeliveryChangeView]


@operations.add(
    "POST",
    "/v1/deliveries/{delivery_id}/resolve",
    scope="posts:write",
    summary="Settle a delivery whose outcome is unknown",
    description=(
        "Of a delivery that is `unknown`. Look at the network first: `published` true ends it, false sends it again."
    ),
    answer=DeliveryView,
    body="json",
    reads="posts:read",
)
async def resolve_delivery(context: RequestContext, delivery_id: DeliveryId, body: ResolveDelivery) -> pb.Delivery:
    request = pb.ResolveDeliveryRequest(
        request_id=context.request_id,
        delivery_id=delivery_id,
        published=body.published,
        remote_url=body.remote_url,
    )
    return (await context.call(context.backends.deliveries.ResolveDelivery, request)).delivery
