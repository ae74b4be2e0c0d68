"""Events as JSON: field names as in the contracts, numbers as numbers, times as RFC 3339."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from regie_chassis.enums import names_of
from regie_chassis.text import storable


def data_of(message: Message) -> dict[str, Any]:
    """Returns the event's fields; absent messages are null, everything else is always there."""
    return {field.name: _field(message, field) for field in message.DESCRIPTOR.fields}


def _field(message: Message, field: Any) -> Any:
    value = getattr(message, field.name)
    kind = field.message_type
    if kind is not None and kind.GetOptions().map_entry:
        show = _shower(kind.fields_by_name["value"])
        return {str(key): show(item) for key, item in value.items()}
    show = _shower(field)
    if field.is_repeated:
        return [show(item) for item in value]
    if field.has_presence and not message.HasField(field.name):
        return None
    return show(value)


def _shower(field: Any) -> Callable[[Any], Any]:
    if field.message_type is not None:
        return _show_message
    if field.enum_type is not None:
        return names_of(field.enum_type).__getitem__
    return storable if field.type == FieldDescriptor.TYPE_STRING else lambda value: value


def _show_message(value: Message) -> Any:
    if isinstance(value, Timestamp | Duration):
        return value.ToJsonString()
    return data_of(value)
