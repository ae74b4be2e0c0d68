"""Posts between JSON and messages. Written out by hand: reading a post is the gateway's most frequent work."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, JsonValue, model_validator
from regie.scheduler.v1 import scheduler_service_pb2 as pb

from regie_gateway.rest.fields import Body, ChannelRef, MediaRef, View, show_time

PostState = Literal[
    "draft",
    "in_review",
    "approved",
    "scheduled",
    "dispatched",
    "published",
    "partially_published",
    "failed",
    "missed",
    "cancelled",
    "expired",
]
MOST_TEXT = 100_000  # characters, as for every limit here: what the scheduler holds (tests/policy/test_limits.py)
Visibility = Literal["public", "unlisted", "private", "direct"]
STATES: dict[int, str] = {number: name.removeprefix("POST_STATE_").lower() for name, number in pb.PostState.items()}
STATE_NUMBERS = {name: number for number, name in STATES.items()}
VARIANT_STATES: dict[int, str] = {
    number: name.removeprefix("VARIANT_STATE_").lower() for name, number in pb.VariantState.items()
}
VARIANT_STATES[0] = "waiting"
ONE_FORM: list[JsonValue] = [
    {"required": ["text"], "properties": {"text": {"type": "string"}, "segments": {"type": "null"}}},
    {"required": ["segments"], "properties": {"segments": {"type": "array"}, "text": {"type": "null"}}},
]


class AttachmentBody(Body):
    """A picture with its description."""

    media_id: MediaRef
    alt_text: str = Field(default="", max_length=10_000)


class PartBody(Body):
    """One part of a thread."""

    text: str = Field(max_length=MOST_TEXT)
    attachments: list[AttachmentBody] = Field(default=[], max_length=4)


class VariantBody(Body):
    """What is said on one channel: `segments`, or `text` for a plain post."""

    model_config = ConfigDict(json_schema_extra={"oneOf": ONE_FORM})

    channel_id: ChannelRef
    text: str | None = Field(default=None, max_length=MOST_TEXT)
    segments: list[PartBody] | None = Field(default=None, min_length=1, max_length=25)
    visibility: Visibility = "public"
    language: str = Field(default="", max_length=35, pattern="^([A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*)?$")

    @model_validator(mode="after")
    def _one_form(self) -> VariantBody:
        if (self.text is None) == (self.segments is None):
            raise ValueError("give either text or segments")
        return self


class PublishAt(Body):
    """A wall time somewhere on earth."""

    local_time: str = Field(
        pattern=r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}(:\d{2}(\.\d{1,6})?)?$", examples=["2030-06-01T09:30:00"]
    )
    time_zone: str = Field(
        max_length=64, pattern="^[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+){0,2}$", examples=["Europe/Paris"]
    )


class CreatePost(Body):
    """A new post; without `publish_at` it stays a draft."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "title": "Opening night",
                    "variants": [{"channel_id": "chan_01jqz8m4x5e0hv6r2tq3n9k7ca", "text": "Doors open at eight."}],
                    "publish_at": {"local_time": "2030-06-01T09:30:00", "time_zone": "Europe/Paris"},
                }
            ]
        }
    )

    title: str = Field(max_length=500)
    variants: list[VariantBody] = Field(min_length=1, max_length=50)
    publish_at: PublishAt | None = None


class EditPost(Body):
    """What is to change; what is absent stays."""

    revision: Annotated[int, Field(ge=1, le=2**63 - 1)] | None = Field(
        default=None, description="The revision you have seen; the edit is refused when there is a newer one."
    )
    title: str | None = Field(default=None, max_length=500)
    variants: list[VariantBody] | None = Field(default=None, min_length=1, max_length=50)


class SchedulePost(Body):
    """When a post leaves."""

    publish_at: PublishAt


class AttachmentView(View):
    """A picture with its description."""

    media_id: str
    alt_text: str


SegmentState = Literal[
    "waiting", "pending", "processing", "published", "failed", "unknown", "missed", "cancelled", "not_sent"
]


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
    state: Literal["waiting", "pending", "processing", "published", "failed", "unknown", "missed", "cancelled"]
    remote_id: str
    remote_url: str = Field(description="Of the first part that is out, also where later ones failed.")
    failure: str
    remove_time: datetime | None = Field(description="When it was seen that the network no longer has it.")


class PublishAtView(View):
    """The wall time, its zone, and the same instant in UTC."""

    local_time: str
    time_zone: str
    time: datetime | None


class PostView(View):
    """A post."""

    post_id: str
    title: str
    state: PostState
    variants: list[VariantView]
    publish_at: PublishAtView | None
    revision: int
    create_time: datetime | None
    update_time: datetime | None
    cancel_time: datetime | None = Field(
        description="When it was asked to stop. While the state is dispatched, what was on its way may still come out."
    )


class PostPage(View):
    """A page of posts."""

    posts: list[PostView]
    next_page_token: str


def variant_messages(variants: list[VariantBody]) -> list[pb.Variant]:
    """Returns the variants as messages."""
    return [
        pb.Variant(
            channel_id=variant.channel_id,
            segments=_segments(variant),
            visibility=variant.visibility,
            language=variant.language,
        )
        for variant in variants
    ]


def _segments(variant: VariantBody) -> list[pb.Segment]:
    if variant.segments is None:
        return [pb.Segment(text=variant.text or "")]
    return [
        pb.Segment(
            text=part.text,
            attachments=[pb.Attachment(media_id=one.media_id, alt_text=one.alt_text) for one in part.attachments],
        )
        for part in variant.segments
    ]


def show_post(post: pb.Post) -> dict[str, Any]:
    """Returns a post as JSON."""
    publish_at = None
    if post.publish_local_time:
        publish_at = {
            "local_time": post.publish_local_time,
            "time_zone": post.time_zone,
            "time": show_time(post.publish_time),
        }
    return {
        "post_id": post.post_id,
        "title": post.title,
        "state": STATES.get(post.state, "draft"),
        "variants": [_show_variant(variant) for variant in post.variants],
        "publish_at": publish_at,
        "revision": post.revision,
        "create_time": show_time(post.create_time),
        "update_time": show_time(post.update_time),
        "cancel_time": show_time(post.cancel_time),
    }


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
