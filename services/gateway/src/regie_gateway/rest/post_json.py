"""Posts between JSON and messages. Written out by hand: reading a post is the gateway's most frequent work."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Discriminator, Field, Tag
from pydantic.json_schema import SkipJsonSchema
from regie.scheduler.v1 import posts_service_pb2 as pb
from regie_chassis.validation import refusal

from regie_gateway.rest.fields import WHOLE, Body, ChannelRef, MediaRef, NotNull, View, show_time, without_default

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
MOST_TEXT = 100_000  # characters, as for every limit here: what the scheduler holds (tests/policy/test_limits.py)
Visibility = Literal["public", "unlisted", "private", "direct"]
Occurrence = Literal["first", "second"]
STATES: dict[int, str] = {number: name.removeprefix("POST_STATE_").lower() for name, number in pb.PostState.items()}
STATE_NUMBERS = {name: number for number, name in STATES.items()}
VARIANT_STATES: dict[int, str] = {
    number: name.removeprefix("VARIANT_STATE_").lower() for name, number in pb.VariantState.items()
}
SEGMENT_STATES: dict[int, str] = {
    number: name.removeprefix("SEGMENT_STATE_").lower() for name, number in pb.SegmentState.items()
}
VariantStateName = Literal["planned", "pending", "processing", "published", "failed", "unknown", "missed", "cancelled"]
OPEN_STATES = frozenset({"pending", "processing", "unknown"})
LANGUAGE = re.compile("([A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*)?")
# What a calendar can have; the scheduler says of a date whether it has it.
LOCAL_TIME = r"^\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])T([01]\d|2[0-3]):[0-5]\d(:[0-5]\d(\.\d{1,6})?)?$"


def _language(tag: str) -> str:
    if not LANGUAGE.fullmatch(tag):
        raise refusal("give a BCP 47 tag, as in fr or pt-BR")
    return tag


def _language_schema(schema: dict[str, Any]) -> None:
    without_default(schema)
    schema["pattern"] = f"^{LANGUAGE.pattern}$"


def _local_time(text: str) -> str:
    if not re.match(LOCAL_TIME, text):
        raise refusal("write the wall time as 2026-03-02T09:00:00, without an offset; time_zone says where")
    return text


class AttachmentBody(Body):
    """A picture with its description."""

    media_id: MediaRef
    alt_text: str = Field(
        default="", max_length=10_000, description="What the picture shows.", json_schema_extra=without_default
    )


class PartBody(Body):
    """One part of a thread: a text, or pictures, or both."""

    text: str = Field(max_length=MOST_TEXT, description="Empty only beside an attachment.")
    attachments: list[AttachmentBody] = Field(default=[], max_length=4, json_schema_extra=without_default)


class _Variant(Body):
    channel_id: ChannelRef
    visibility: Visibility = Field(
        default="public", description="`public` when absent.", json_schema_extra=without_default
    )
    language: Annotated[str, AfterValidator(_language)] = Field(
        default="",
        max_length=35,
        description="A BCP 47 tag, as in pt-BR; unknown when absent.",
        json_schema_extra=_language_schema,
    )


class TextVariantBody(_Variant):
    """A plain post on one channel."""

    text: str = Field(min_length=1, max_length=MOST_TEXT)


class ThreadVariantBody(_Variant):
    """A thread on one channel, or a plain post with pictures: one part or several."""

    segments: list[PartBody] = Field(min_length=1, max_length=25)


def _one_form(value: Any) -> Any:
    if isinstance(value, dict) and (value.get("text") is None) == (value.get("segments") is None):
        raise refusal("give either text or segments")
    return value


def _form(value: Any) -> str:
    return "(segments)" if isinstance(value, dict) and value.get("segments") is not None else "(text)"


VariantBody = Annotated[
    Annotated[TextVariantBody, Tag("(text)")] | Annotated[ThreadVariantBody, Tag("(segments)")],
    Discriminator(_form),
    BeforeValidator(_one_form),
]


class PublishAt(Body):
    """A wall time somewhere on earth."""

    local_time: Annotated[str, AfterValidator(_local_time)] = Field(
        examples=["2030-06-01T09:30:00"], json_schema_extra={"pattern": LOCAL_TIME}
    )
    # The scheduler knows the zones and explains what is none.
    time_zone: str = Field(max_length=64, description="A zone of the IANA database.", examples=["Europe/Paris"])
    occurrence: Annotated[Occurrence | SkipJsonSchema[None], NotNull] = Field(
        default=None,
        description="Which of the two, when the clocks are moved back over this time; the first when absent.",
        json_schema_extra=without_default,
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
    publish_at: Annotated[PublishAt | SkipJsonSchema[None], NotNull] = Field(
        default=None, json_schema_extra=without_default
    )


class EditPost(Body):
    """What is to change; what is absent stays. Nothing to change is no edit: the revision stays."""

    revision: Annotated[Annotated[int, Field(ge=1, le=2**63 - 1), WHOLE] | SkipJsonSchema[None], NotNull] = Field(
        default=None,
        description="The revision you have seen, as If-Match; the edit is refused when there is a newer one.",
        json_schema_extra=without_default,
    )
    title: Annotated[Annotated[str, Field(max_length=500)] | SkipJsonSchema[None], NotNull] = Field(
        default=None, json_schema_extra=without_default
    )
    variants: Annotated[
        Annotated[list[VariantBody], Field(min_length=1, max_length=50)] | SkipJsonSchema[None], NotNull
    ] = Field(default=None, json_schema_extra=without_default)


class SchedulePost(Body):
    """When a post leaves."""

    publish_at: PublishAt


class AttachmentView(View):
    """A picture with its description."""

    media_id: str
    alt_text: str


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


def variant_messages(variants: Sequence[TextVariantBody | ThreadVariantBody]) -> list[pb.Variant]:
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


def _segments(variant: TextVariantBody | ThreadVariantBody) -> list[pb.Segment]:
    if isinstance(variant, TextVariantBody):
        return [pb.Segment(text=variant.text)]
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
        "state": VARIANT_STATES.get(variant.state, "planned"),
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
        "state": SEGMENT_STATES.get(segment.state, "planned"),
        "remote_id": segment.remote_id,
        "remote_url": segment.remote_url,
    }
