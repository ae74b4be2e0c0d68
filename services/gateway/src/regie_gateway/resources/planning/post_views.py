"""Views of posts."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field
from regie.scheduler.v1 import posts_service_pb2 as pb

from regie_gateway.http.fields import View
from regie_gateway.mapping.overrides import From, WhenEmpty
from regie_gateway.mapping.values import time_value

# Those of the contract that a post can reach today; in_review, approved and expired wait for approvals.
PostState = Literal[
    "draft",
    "scheduled",
    "dispatched",
    "published",
    "partially_published",
    "failed",
    "missed",
    "cancelled",
]
Visibility = Literal["public", "unlisted", "private", "direct"]
Occurrence = Literal["first", "second"]
VariantStateName = Literal["planned", "pending", "processing", "published", "failed", "unknown", "missed", "cancelled"]
SegmentState = Literal[
    "planned",
    "waiting",
    "pending",
    "processing",
    "published",
    "failed",
    "unknown",
    "missed",
    "cancelled",
    "not_sent",
]
OPEN_STATES = frozenset({pb.VARIANT_STATE_PENDING, pb.VARIANT_STATE_PROCESSING, pb.VARIANT_STATE_UNKNOWN})


class AttachmentView(View):
    """A picture with its description."""

    media_id: str
    alt_text: str


class PartView(View):
    """One part of a thread, and its state."""

    text: str
    attachments: list[AttachmentView]
    state: Annotated[SegmentState, WhenEmpty("planned")] = Field(
        description="not_sent: a part before it did not go out, so this one will not either."
    )
    remote_id: str = Field(description="The network's id; empty until published.")
    remote_url: str = Field(description="The public address; empty until published.")


class VariantView(View):
    """The content of a post on one channel, and its state there."""

    channel_id: str
    segments: list[PartView]
    visibility: Annotated[Visibility, WhenEmpty("public")]
    language: str
    state: Annotated[VariantStateName, WhenEmpty("planned")]
    remote_id: str
    remote_url: str = Field(description="Of the first part that is out, also where later ones failed.")
    failure: str
    remove_time: datetime | None = Field(description="When it was seen that the network no longer has it.")


class PublishAtView(View):
    """The wall time, its zone, and the same instant in UTC."""

    local_time: str
    time_zone: str
    occurrence: Occurrence = Field(description="`second` where the clocks are moved back and the later one is meant.")
    time: datetime | None


class CancellationView(View):
    """The cancellation of a post, and the channels where it could not be stopped any more."""

    cancel_time: datetime | None
    open_channel_ids: list[str] = Field(
        description="Channels where the post can still appear, as a call may have left. The timeline has the outcome."
    )


def _publish_at(post: pb.Post) -> dict[str, Any] | None:
    if not post.publish_local_time:
        return None
    return {
        "local_time": post.publish_local_time,
        "time_zone": post.time_zone,
        "occurrence": post.occurrence or "first",
        "time": time_value(post.publish_time),
    }


def _cancellation(post: pb.Post) -> dict[str, Any] | None:
    if not post.HasField("cancel_time"):
        return None
    still_open = [variant.channel_id for variant in post.variants if variant.state in OPEN_STATES]
    return {"cancel_time": time_value(post.cancel_time), "open_channel_ids": still_open}


class PostView(View):
    """A post."""

    etag_field = "revision"

    post_id: str
    title: str
    state: PostState
    variants: list[VariantView]
    publish_at: Annotated[PublishAtView | None, From(_publish_at)]
    cancellation: Annotated[CancellationView | None, From(_cancellation)] = Field(
        description="Null unless somebody stopped the post."
    )
    revision: int = Field(description="Counts edits and moves; it is the ETag, too.")
    create_time: datetime | None
    update_time: datetime | None


class PostPage(View):
    """A page of posts."""

    posts: list[PostView]
    next_page_token: str
