"""Field types that many resources share: ids, pages, times."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any

from fastapi import Path, Query
from google.protobuf.timestamp_pb2 import Timestamp
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from regie_chassis import ids

EXAMPLE_SUFFIX = "01jqz8m4x5e0hv6r2tq3n9k7ca"


class Body(BaseModel):
    """A request's body: unknown fields are refused, and nothing is silently converted."""

    model_config = ConfigDict(extra="forbid", strict=True)


class View(BaseModel):
    """An answer as OpenAPI describes it; the answers themselves are built by hand."""

    model_config = ConfigDict(extra="forbid")


def _id_check(prefix: str, field: str) -> Callable[[str], str]:
    def check(value: str) -> str:
        ids.parse_id(prefix, value, field)
        return value

    return check


def _id_of(prefix: str, field: str) -> Any:
    pattern = f"^{prefix}_[0-7][0-9a-hjkmnp-tv-z]{{25}}$"
    shown = Field(json_schema_extra={"pattern": pattern}, examples=[f"{prefix}_{EXAMPLE_SUFFIX}"])
    return AfterValidator(_id_check(prefix, field)), shown


_CHANNEL = _id_of(ids.CHANNEL, "channel_id")
_MEDIA = _id_of(ids.MEDIA, "media_id")


def _path(prefix: str) -> Any:
    pattern = f"^{prefix}_[0-7][0-9a-hjkmnp-tv-z]{{25}}$"
    return Path(json_schema_extra={"pattern": pattern}, examples=[f"{prefix}_{EXAMPLE_SUFFIX}"])


ChannelRef = Annotated[str, _CHANNEL[0], _CHANNEL[1]]
MediaRef = Annotated[str, _MEDIA[0], _MEDIA[1]]

PostId = Annotated[str, AfterValidator(_id_check(ids.POST, "post_id")), _path(ids.POST)]
ChannelId = Annotated[str, AfterValidator(_id_check(ids.CHANNEL, "channel_id")), _path(ids.CHANNEL)]
DeliveryId = Annotated[str, AfterValidator(_id_check(ids.DELIVERY, "delivery_id")), _path(ids.DELIVERY)]
ProfileId = Annotated[str, AfterValidator(_id_check(ids.PROFILE, "profile_id")), _path(ids.PROFILE)]
SegmentId = Annotated[str, AfterValidator(_id_check(ids.SEGMENT, "segment_id")), _path(ids.SEGMENT)]
ApiKeyId = Annotated[str, AfterValidator(_id_check(ids.API_KEY, "api_key_id")), _path(ids.API_KEY)]


class PageQuery(BaseModel):
    """Which page of a list; unknown parameters are refused."""

    model_config = ConfigDict(extra="forbid")

    page_size: Annotated[int, Field(ge=1, le=200, description="At most this many.")] = 50
    page_token: Annotated[str, Field(max_length=1024, description="`next_page_token` of the page before.")] = ""


Page = Annotated[PageQuery, Query()]


def show_time(value: Timestamp) -> str | None:
    """Returns RFC 3339 in UTC to the microsecond; None for a time that is absent."""
    if not value.seconds and not value.nanos:
        return None
    return value.ToJsonString()


def proto_time(value: datetime | None) -> Timestamp | None:
    """Returns the instant as a message."""
    if value is None:
        return None
    time = Timestamp()
    time.FromDatetime(value)
    return time
