"""The JSON of every event is what docs/asyncapi.yaml says of it."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any, cast

import jsonschema_rs
import pytest
import yaml
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from regie_chassis.events.contracts import all_events
from regie_chassis.events.messaging import service_of
from regie_gateway.events.event_json import data_of

DOCUMENT = yaml.safe_load((Path(__file__).parents[2] / "docs" / "asyncapi.yaml").read_text())
SCHEMAS = DOCUMENT["components"]["schemas"]
NUMBERS = {FieldDescriptor.CPPTYPE_DOUBLE: 0.5, FieldDescriptor.CPPTYPE_FLOAT: 0.5, FieldDescriptor.CPPTYPE_BOOL: True}


@pytest.mark.parametrize("kind", all_events(), ids=lambda kind: kind.DESCRIPTOR.full_name)
def test_an_event_with_all_its_fields_has_the_form_of_its_schema(kind: type[Message]) -> None:
    message = kind()
    _fill(message)
    data = data_of(message)
    reference = f"#/components/schemas/{service_of(message.DESCRIPTOR.full_name)}.{message.DESCRIPTOR.name}"
    validator = jsonschema_rs.Draft202012Validator(
        {"$ref": reference, "components": {"schemas": SCHEMAS}}, validate_formats=True
    )
    assert [f"{error.instance_path}: {error.message}" for error in validator.iter_errors(data)] == []
    assert set(data) == set(SCHEMAS[reference.rpartition("/")[2]]["properties"])


def test_a_time_is_in_utc_and_a_span_in_seconds() -> None:
    by_name = {kind.DESCRIPTOR.name: kind for kind in all_events()}
    due, updated = by_name["PostDue"](), by_name["WorkspaceUpdated"]()
    _fill(due)
    _fill(updated)
    assert data_of(due)["publish_time"].endswith("Z")
    assert datetime.fromisoformat(data_of(due)["publish_time"]).tzinfo is not None
    assert data_of(updated)["missed_after"] == "90.500s"


def _fill(message: Message) -> None:
    if message.DESCRIPTOR.full_name == "google.protobuf.Timestamp":
        message.FromJsonString("2026-03-02T08:00:00.412Z")  # type: ignore[attr-defined]
    elif message.DESCRIPTOR.full_name == "google.protobuf.Duration":
        message.FromJsonString("90.5s")  # type: ignore[attr-defined]
    else:
        for field in message.DESCRIPTOR.fields:
            _fill_field(message, cast("FieldDescriptor", field))


def _fill_field(message: Message, field: FieldDescriptor) -> None:
    place = getattr(message, field.name)
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        inner = field.message_type.fields_by_name["value"]
        if inner.message_type is not None:
            _fill(place["name"])
        else:
            place["name"] = _sample(inner)
    elif field.message_type is not None:
        _fill(place.add() if field.is_repeated else place)
    elif field.is_repeated:
        place.append(_sample(field))
    else:
        setattr(message, field.name, _sample(field))


def _sample(field: FieldDescriptor) -> Any:
    if field.enum_type is not None:
        return field.enum_type.values[-1].number
    if field.type == FieldDescriptor.TYPE_BYTES:
        return b"x"
    if field.type == FieldDescriptor.TYPE_STRING:
        return "x"
    return NUMBERS.get(field.cpp_type, 7)
