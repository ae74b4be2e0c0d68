"""Events as JSON: field names as in the contracts, numbers as numbers, times as RFC 3339, states by their names.

The message of an event is its public form, so all of its fields come out; absent messages are null.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from regie_chassis.boundary.enums import names_of
from regie_chassis.boundary.text import storable

from regie_gateway.mapping.code import Code, Mapper, attribute

TIMES = frozenset({"google.protobuf.Timestamp", "google.protobuf.Duration"})


def data_of(message: Message) -> dict[str, Any]:
    """Returns the event's fields."""
    return _mapper(message.DESCRIPTOR)(message)


@cache
def _mapper(message: Descriptor) -> Mapper:
    code = Code(message.full_name)
    for field in message.fields:
        code.add(field.name, _of_field(code, field))
    return code.compile()


def _of_field(code: Code, field: FieldDescriptor) -> str:
    value = attribute(field.name)
    kind = field.message_type
    if kind is not None and kind.GetOptions().map_entry:
        inner = _of_item(code, kind.fields_by_name["value"], "item")
        return f"{{str(name): {inner} for name, item in {value}.items()}}"
    if field.is_repeated:
        return f"[{_of_item(code, field, 'item')} for item in {value}]"
    expression = _of_item(code, field, value)
    return f"{expression} if source.HasField({field.name!r}) else None" if field.has_presence else expression


def _of_item(code: Code, field: FieldDescriptor, value: str) -> str:
    if field.message_type is not None:
        name = field.message_type.full_name
        return f"{value}.ToJsonString()" if name in TIMES else f"{code.bind(_mapper(field.message_type))}({value})"
    if field.enum_type is not None:
        return f"{code.bind(names_of(field.enum_type))}[{value}]"
    return f"{code.bind(storable)}({value})" if field.type == FieldDescriptor.TYPE_STRING else value
