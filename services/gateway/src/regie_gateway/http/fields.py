"""Field types that many resources share: ids, pages, times."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar

from fastapi import Path, Query
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator
from regie.ids.v1 import prefixes
from regie_chassis.boundary import ids
from regie_chassis.boundary.validation import refusal

EXAMPLE_SUFFIX = "01jqz8m4x5e0hv6r2tq3n9k7ca"


class Body(BaseModel):
    """A request's body: unknown fields are refused, and nothing is silently converted."""

    model_config = ConfigDict(extra="forbid", strict=True)


class View(BaseModel):
    """An answer: the list of shown fields, as in OpenAPI. `mapping.compiled` makes the answers from it."""

    model_config = ConfigDict(extra="forbid")

    etag_field: ClassVar[str] = ""
    """The field that is the ETag; empty for an answer without one."""


def _id_check(prefix: str) -> AfterValidator:
    def check(value: str) -> str:
        try:
            ids.parse_id(prefix, value)
        except ids.InvalidId as error:
            raise refusal(error.message, status=error.http_status, reason=error.reason) from error
        return value

    return AfterValidator(check)


def _pattern(prefix: str) -> str:
    return f"^{prefix}_[0-7][0-9a-hjkmnp-tv-z]{{25}}$"


def _ref(prefix: str) -> Any:
    return Field(json_schema_extra={"pattern": _pattern(prefix)}, examples=[f"{prefix}_{EXAMPLE_SUFFIX}"])


def _path(prefix: str, what: str) -> Any:
    return Path(
        json_schema_extra={"pattern": _pattern(prefix)},
        examples=[f"{prefix}_{EXAMPLE_SUFFIX}"],
        description=f"Which {what}.",
    )


ChannelRef = Annotated[str, _id_check(prefixes.CHANNEL), _ref(prefixes.CHANNEL)]
MediaRef = Annotated[str, _id_check(prefixes.MEDIA), _ref(prefixes.MEDIA)]

PostId = Annotated[str, _id_check(prefixes.POST), _path(prefixes.POST, "post")]
ChannelId = Annotated[str, _id_check(prefixes.CHANNEL), _path(prefixes.CHANNEL, "channel")]
DeliveryId = Annotated[str, _id_check(prefixes.DELIVERY), _path(prefixes.DELIVERY, "delivery")]
ProfileId = Annotated[str, _id_check(prefixes.PROFILE), _path(prefixes.PROFILE, "profile")]
SegmentId = Annotated[str, _id_check(prefixes.SEGMENT), _path(prefixes.SEGMENT, "segment")]
ApiKeyId = Annotated[str, _id_check(prefixes.API_KEY), _path(prefixes.API_KEY, "key")]


def without_default(schema: dict[str, Any]) -> None:
    """Takes the default out of a schema: generators make a field with one required. The description states it."""
    schema.pop("default", None)


def _whole(number: Any) -> Any:
    return int(number) if isinstance(number, float) and number.is_integer() else number


WHOLE = BeforeValidator(_whole)
"""Of a whole number, also where it is written 74.0: JSON has one kind of numbers. Stands behind the number's bounds."""


def _not_null(value: Any) -> Any:
    if value is None:
        raise refusal("null is no value here; leave it out")
    return value


NotNull = BeforeValidator(_not_null)
"""Of a member that may be absent: null in its place is a mistake of the caller's, and never taken for absent."""

RFC_3339 = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?([Zz]|[+-][0-9]{2}:[0-9]{2})"
)
EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
LATEST = datetime(2200, 1, 1, tzinfo=UTC)


def _instant(value: Any) -> datetime:
    try:
        if not isinstance(value, str) or not RFC_3339.fullmatch(value):
            raise ValueError("not in the form")
        instant = datetime.fromisoformat(value.upper())
    except ValueError as error:
        raise refusal("give a time with its offset, as in 2030-06-01T09:30:00Z or 2030-06-01T11:30:00+02:00") from error
    if not EARLIEST <= instant <= LATEST:
        raise refusal("give a time between 2000 and 2200")
    return instant


Instant = Annotated[
    datetime, PlainValidator(_instant, json_schema_input_type=datetime), Field(examples=["2030-06-01T09:30:00Z"])
]
"""A point in time as RFC 3339 writes it, and nothing else that could be taken for one."""


class PageQuery(BaseModel):
    """Which page of a list; unknown parameters are refused."""

    model_config = ConfigDict(extra="forbid")

    page_size: Annotated[int, Field(ge=1, le=200, description="At most this many.")] = 50
    page_token: Annotated[str, Field(max_length=1024, description="`next_page_token` of the page before.")] = ""


Page = Annotated[PageQuery, Query()]
