"""Where an error of a service stands in the REST request: its fields are those of messages, a caller's are not."""

from __future__ import annotations

import re
from typing import Any

from regie_chassis.boundary.validation import pointer

from regie_gateway.http.operations import Operation

PARAMETERS = {"start_time": "start", "end_time": "end", "post_ids": "post_id", "request_id": "Idempotency-Key"}
IN_THE_BODY = {
    "publish_local_time": "publish_at.local_time",
    "time_zone": "publish_at.time_zone",
    "occurrence": "publish_at.occurrence",
}
ATTRIBUTE = re.compile(r"(profiles\[\d+\]\.attributes)\.(.+)", re.DOTALL)  # a name may hold dots itself
STEP = re.compile(r"\[(\d+)\]|([^.\[\]]+)")


def place_of(field: str, operation: Operation, body: Any) -> str | None:
    """Returns the field of an error as a JSON Pointer into the body or the name of a parameter; None for no field."""
    if not field:
        return None
    if field[0].isupper() or f"{{{field}}}" in operation.path:  # a header, a part of the path
        return field
    if field in PARAMETERS:
        return PARAMETERS[field]
    if operation.body == "none":
        return field
    if operation.body == "file":
        return ""
    if field == "revision" and "revision" not in (body or {}):
        return "If-Match"
    return pointer(_steps(IN_THE_BODY.get(field, field)), body, to_a_name=True)


def _steps(field: str) -> list[int | str]:
    tail: list[int | str] = []
    if named := ATTRIBUTE.fullmatch(field):
        field, tail = named[1], [named[2]]
    steps: list[int | str] = [int(index) if index else name for index, name in STEP.findall(field)]
    # A comparison is a form of its own in messages alone.
    return [step for step in steps if step != "comparison"] + tail
