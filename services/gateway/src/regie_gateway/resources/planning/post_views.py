"""Posts between JSON and messages. Written out by hand: reading a post is the gateway's most frequent work."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import Field
from regie.scheduler.v1 import posts_service_pb2 as pb

from regie_gateway.http.fields import View, show_time
from regie_gateway.resources.publishing.deliveries import SegmentState

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
STATES: dict[int, str] = {number: name.removeprefix("POST_STATE_").lower() for name, number in pb.PostState.items()}
STATE_NUMBERS = {name: number for number, name in STATES.items()}
VARIANT_STATES: dict[int, str] = {
    number: name.removeprefix("VARIANT_STATE_").lower() for name, number in pb.VariantState.items()
}
VARIANT_STATES[0] = "waiting"
VariantStateName = Literal["waiting", "pending", "processing", "published", "failed", "unknown", "missed", "cancelled"]
OPEN_STATES = frozenset({"pending", "processing", "unknown"})


class AttachmentView(View):
    """A picture with its description."""

    media_id: str
    alt_text: str


class PartView(View):
    """One part of a thread, and what became of it."""

    text: str
    attachments: list[AttachmentView]
    state: SegmentState = Field(description="not_sent: a part before it did not go out, so this one will not either.")
    remote_id: str = Field(description="The network's id; empty until published.")
    remote_url: str = Field(description="The public address; empty until published.")


class VariantView(View):
    """What a post says on one channel, and what became of it there."""

    channel_id: str
    segments: list[PartView]
    visibility: Visibility
    language: str
    state: VariantStateName
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
    """That somebody stopped the post, and what could not be stopped any more when this was answered."""

    cancel_time: datetime | None
    open_channel_ids: list[str] = Field(
        description="Channels that a call may have left for: the post can still appear there. The timeline tells."
    )


class PostView(View):
    """A post."""

    post_id: str
    title: str
    state: PostState
    variants: list[VariantView]
    publish_at: PublishAtView | None
    cancellation: CancellationView | None = Field(description="Null unless somebody stopped the post.")
    revision: int = Field(description="Counts edits and moves; it is the ETag, too.")
    create_time: datetime | None
    update_time: datetime | None


class PostPage(View):
    """A page of posts."""

    posts: list[PostView]
    next_page_token: str


def show_post(post: pb.Post) -> dict[str, Any]:
    """Returns a post as JSON."""
    publish_at = None
    if post.publish_local_time:
        publish_at = {
            "local_time": post.publish_local_time,
            "time_zone": post.time_zone,
            "occurrence": post.occurrence or "first",
            "time": show_time(post.publish_time),
        }
    variants = [_show_variant(variant) for variant in post.variants]
    return {
        "post_id": post.post_id,
        "title": post.title,
        "state": STATES[post.state],
        "variants": variants,
        "publish_at": publish_at,
        "cancellation": _show_cancellation(post, variants),
        "revision": post.revision,
        "create_time": show_time(post.create_time),
        "update_time": show_time(post.update_time),
    }


def _show_cancellation(post: pb.Post, variants: list[dict[str, Any]]) -> dict[str, Any] | None:
    if not post.HasField("cancel_time"):
        return None
    still_open = [one["channel_id"] for one in variants if one["state"] in OPEN_STATES]
    return {"cancel_time": show_time(post.cancel_time), "open_channel_ids": still_open}


def _show_variant(variant: pb.Variant) -> dict[str, Any]:
    return {
        "channel_id": variant.channel_id,
        "segments": [_show_part(segment) for segment in variant.segments],
        "visibility": variant.visibility or "public",
        "language": variant.language,
        "state": VARIANT_STATES.get(variant.state, "waiting"),
        "remote_id": variant.remote_id,
        "remote_url": variant.remote_url,
        "failure": variant.failure,
        "remove_time": show_time(variant.remove_time),
    }


def _show_part(segment: pb.Segment) -> dict[str, Any]:
    attachments = [{"media_id": one.media_id, "alt_text": one.alt_text} for one in segment.attachments]
    return {
        "text": segment.text,
        "attachments": attachments,
        "state": segment.state or "waiting",
        "remote_id": segment.remote_id,
        "remote_url": segment.remote_url,
    }
