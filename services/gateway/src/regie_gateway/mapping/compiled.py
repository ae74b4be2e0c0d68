"""Answers: a function for each (message, view), generated once, which runs as fast as one written by hand.

The view is the allow-list: a field that only the message has stays inside. A field that only the view has needs a
mark of `overrides`, else nothing is generated.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar, get_args, get_origin

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from regie_chassis.boundary.enums import names_of

from regie_gateway.mapping.code import Code, Mapper, attribute
from regie_gateway.mapping.overrides import From, WhenEmpty
from regie_gateway.mapping.values import json_value, struct_value, time_value

Source = TypeVar("Source")

WELL_KNOWN: dict[str, Callable[[Any], Any]] = {
    "google.protobuf.Timestamp": time_value,
    "google.protobuf.Struct": struct_value,
    "google.protobuf.Value": json_value,
}


def compile_view(source: type[Source], view: type[BaseModel]) -> Callable[[Source], dict[str, Any]]:
    """Returns the function from a message, or from a row with attributes, to the JSON of a view.

    Raises TypeError for a field of the view that the source does not have, or has in another form.
    """
    if issubclass(source, Message):
        return _message_mapper(source.DESCRIPTOR, view)
    return _row_mapper(source, view)


@cache
def _message_mapper(message: Descriptor, view: type[BaseModel]) -> Mapper:
    code = Code(f"{view.__name__} of {message.full_name}")
    for name, field in view.model_fields.items():
        computed = _mark(field, From)
        if computed is not None:
            code.add(name, f"{code.bind(computed.compute)}(source)")
        elif name in message.fields_by_name:
            code.add(name, _of_field(code, message.fields_by_name[name], field))
        else:
            raise TypeError(f"{message.full_name} has no {name} for {view.__name__}; mark the field of the view")
    return code.compile()


def _row_mapper(row: type[Any], view: type[BaseModel]) -> Mapper:
    code = Code(f"{view.__name__} of {row.__name__}")
    for name, field in view.model_fields.items():
        computed = _mark(field, From)
        if computed is None and name not in row.__annotations__:
            raise TypeError(f"{row.__name__} has no {name} for {view.__name__}; mark the field of the view")
        code.add(name, attribute(name) if computed is None else f"{code.bind(computed.compute)}(source)")
    return code.compile()


def _of_field(code: Code, field: FieldDescriptor, view_field: FieldInfo) -> str:
    """Returns the expression for one field of a message."""
    value, default = attribute(field.name), _mark(view_field, WhenEmpty)
    message = field.message_type
    if message is not None and message.GetOptions().map_entry:
        inner = _of_item(code, message.fields_by_name["value"], view_field)
        return f"dict({value})" if inner is None else f"{{name: {inner}(item) for name, item in {value}.items()}}"
    if default is not None:
        return _or_default(code, field, default.value)
    inner = _of_item(code, field, view_field)
    if field.is_repeated:
        return f"list({value})" if inner is None else f"[{inner}(item) for item in {value}]"
    expression = value if inner is None else f"{inner}({value})"
    return (
        f"{expression} if source.HasField({field.name!r}) else None" if _is_optional(field, view_field) else expression
    )


def _or_default(code: Code, field: FieldDescriptor, default: str) -> str:
    if field.enum_type is None:
        return f"{attribute(field.name)} or {default!r}"
    names = {**names_of(field.enum_type), 0: default}
    return f"{code.bind(names)}.get({attribute(field.name)}, {default!r})"


def _of_item(code: Code, field: FieldDescriptor, view_field: FieldInfo) -> str | None:
    """Returns the name of the function for one value of a field; None for a value that JSON has as it is."""
    if field.enum_type is not None:
        return code.bind(names_of(field.enum_type).__getitem__)
    if field.message_type is None:
        return None
    if field.message_type.full_name in WELL_KNOWN:
        return code.bind(WELL_KNOWN[field.message_type.full_name])
    view = _view_in(view_field.annotation)
    if view is None:
        raise TypeError(f"{field.full_name} is a message; give the field of the view a view, or mark it")
    return code.bind(_message_mapper(field.message_type, view))


def _is_optional(field: FieldDescriptor, view_field: FieldInfo) -> bool:
    """True for a field that can be absent and is null then; the functions of WELL_KNOWN see to it themselves."""
    if field.message_type is not None and field.message_type.full_name in WELL_KNOWN:
        return False
    return field.has_presence and type(None) in get_args(view_field.annotation)


def _view_in(annotation: Any) -> type[BaseModel] | None:
    """Returns the view inside of `list[View]`, `View | None` and the like."""
    if get_origin(annotation) is None:
        return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None
    return next((view for inner in get_args(annotation) if (view := _view_in(inner)) is not None), None)


Mark = TypeVar("Mark", From, WhenEmpty)


def _mark(field: FieldInfo, kind: type[Mark]) -> Mark | None:
    return next((mark for mark in field.metadata if isinstance(mark, kind)), None)
