"""JSON values of the types that JSON does not have: times, states, attributes."""

from __future__ import annotations

from typing import Any

from google.protobuf.struct_pb2 import Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp

MAX_EXACT_INTEGER = 2**53  # beyond, a double does not tell neighbours apart


def time_value(time: Timestamp) -> str | None:
    """Returns RFC 3339 in UTC to the microsecond; None for a time that is absent."""
    if not time.seconds and not time.nanos:
        return None
    return time.ToJsonString()


def struct_value(struct: Struct) -> dict[str, Any]:
    """Returns the fields of a Struct."""
    return {name: json_value(value) for name, value in struct.fields.items()}


def json_value(value: Value) -> Any:
    """Returns a Value; whole numbers as integers."""
    kind = value.WhichOneof("kind")
    if kind == "number_value":
        number = value.number_value
        return int(number) if number.is_integer() and abs(number) <= MAX_EXACT_INTEGER else number
    if kind == "list_value":
        return [json_value(item) for item in value.list_value.values]
    if kind == "struct_value":
        return struct_value(value.struct_value)
    return None if kind in {None, "null_value"} else getattr(value, kind)
