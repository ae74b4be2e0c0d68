"""Requests about posts: their bodies, and the messages that these become."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Discriminator, Field, Tag
from pydantic.json_schema import SkipJsonSchema
from regie.scheduler.v1 import posts_service_pb2 as pb
from regie_chassis.boundary.validation import refusal

from regie_gateway.http.fields import WHOLE, Body, ChannelRef, MediaRef, NotNull, without_default
from regie_gateway.resources.planning.post_views import Occurrence, Visibility

MAX_TEXT = 100_000  # characters, as for every limit here: what the scheduler holds (tests/policy/test_limits.py)
LANGUAGE = re.compile("([A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*)?")
# The form of a date and time; the scheduler checks that the calendar has the date.
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

    text: str = Field(max_length=MAX_TEXT, description="Empty only beside an attachment.")
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

    text: str = Field(min_length=1, max_length=MAX_TEXT)


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
            attachments=[
                pb.Attachment(media_id=picture.media_id, alt_text=picture.alt_text) for picture in part.attachments
            ],
        )
        for part in variant.segments
    ]
