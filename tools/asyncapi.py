"""Renders docs/asyncapi.yaml: every event from its descriptor, with its publisher and its subscribers.

`python tools/asyncapi.py` writes the document; with `--check` its exit code shows whether the document is current.
"""

from __future__ import annotations

import inspect
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from google.protobuf import descriptor_pool
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorSet
from grpc_tools import protoc
from regie_chassis.boundary.enums import names_of
from regie_chassis.boundary.ids import new_id
from regie_chassis.events.contracts import all_events
from regie_chassis.events.messaging import headers_of, service_of, stream_of, subject_of

ROOT = Path(__file__).resolve().parent.parent
DOCUMENT = ROOT / "docs" / "asyncapi.yaml"
BANNER = "# Rendered by tools/asyncapi.py from proto/ and the services' `subscriptions`. Do not edit.\n"
HEADERS = {
    "Nats-Msg-Id": "The event's id; a second message with it is not stored again.",
    "ce-specversion": "The version of CloudEvents.",
    "ce-id": "The event's id, a UUID of version 7.",
    "ce-type": "The full name of the event's message.",
    "ce-source": "The service that says the event.",
    "ce-time": "When it happened, RFC 3339.",
    "ce-workspaceid": "The workspace that it happened in.",
    "ce-sequence": "Of two events of one source about one thing, the later has the greater one; digits of one length.",
    "content-type": "How the payload is written.",
    "traceparent": "The W3C trace context of the event's cause, if it is traced.",
}
_Field = FieldDescriptorProto
SCALARS: dict[int, dict[str, str]] = {
    _Field.TYPE_STRING: {"type": "string"},
    _Field.TYPE_BOOL: {"type": "boolean"},
    _Field.TYPE_BYTES: {"type": "string", "contentEncoding": "base64"},
    _Field.TYPE_INT32: {"type": "integer", "format": "int32"},
    _Field.TYPE_INT64: {"type": "integer", "format": "int64"},
    _Field.TYPE_UINT32: {"type": "integer", "format": "uint32"},
    _Field.TYPE_UINT64: {"type": "integer", "format": "uint64"},
    _Field.TYPE_DOUBLE: {"type": "number", "format": "double"},
    _Field.TYPE_FLOAT: {"type": "number", "format": "float"},
}
WELL_KNOWN = {
    ".google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    ".google.protobuf.Duration": {"type": "string", "pattern": r"^-?[0-9]+(\.[0-9]+)?s$"},
}


@dataclass(frozen=True, slots=True)
class Definition:
    """A message of an events file with the comments above it and its fields."""

    full_name: str
    message: DescriptorProto
    comment: str
    field_comments: Mapping[int, str]


def definitions() -> dict[str, Definition]:
    """Returns all messages of all events files by full name."""
    result: dict[str, Definition] = {}
    for file in _descriptors().file:
        if not re.fullmatch(r"regie\.\w+\.events\.v\d+", file.package):
            continue
        comments = {tuple(place.path): _line(place.leading_comments) for place in file.source_code_info.location}
        for index, message in enumerate(file.message_type):
            fields = {number: comments.get((4, index, 2, number), "") for number in range(len(message.field))}
            name = f"{file.package}.{message.name}"
            result[name] = Definition(name, message, comments.get((4, index), ""), fields)
    return result


def events(known: Mapping[str, Definition]) -> list[Definition]:
    """Returns the messages that travel on their own."""
    return [known[kind.DESCRIPTOR.full_name] for kind in all_events()]


def services() -> list[str]:
    """Returns the services that have subscriptions."""
    return sorted(path.parent.name.removeprefix("regie_") for path in ROOT.glob("services/*/src/*/events*"))


def subscribed(service: str) -> list[str]:
    """Returns the full names of the events that a service reacts to."""
    module = import_module(f"regie_{service}.events")
    if hasattr(module, "__path__"):  # a package, as the gateway's
        module = import_module(f"{module.__name__}.subscriptions")
    # Handlers are bound to collaborators; only the keys are read here, so nothing has to be behind them.
    subscriptions = module.subscriptions(**dict.fromkeys(inspect.signature(module.subscriptions).parameters))
    return sorted(kind.DESCRIPTOR.full_name for kind in subscriptions)


def document() -> dict[str, Any]:
    """Returns the AsyncAPI document."""
    known = definitions()
    published = events(known)
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Régie's events",
            "version": "1",
            "description": (
                "What the services tell one another over NATS JetStream. One stream for each service, durable pull"
                " consumers, at least once. The outside reads the gateway's GET /v1/events instead."
            ),
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/protobuf",
        "servers": {"nats": {"host": "127.0.0.1:4222", "protocol": "nats", "description": "NATS_URL says which."}},
        "channels": {_id(one): _channel(one) for one in published},
        "operations": dict(_operations(published)),
        "components": {
            "messages": {_id(one): _message(one) for one in published},
            "schemas": {"EventHeaders": _headers(), **{_id(one): _schema(one) for _, one in sorted(known.items())}},
        },
    }


def render() -> str:
    """Returns the document as YAML."""
    body: str = yaml.safe_dump(document(), sort_keys=False, allow_unicode=True, width=120)
    return BANNER + body


def _id(one: Definition) -> str:
    return f"{service_of(one.full_name)}.{one.message.name}"


def _channel(event: Definition) -> dict[str, Any]:
    service = service_of(event.full_name)
    return {
        "address": subject_of(event.full_name, None).replace("*", "{workspace_id}"),
        "title": event.message.name,
        "description": event.comment,
        "parameters": {"workspace_id": {"description": "The workspace, as in ws_01h455vb4pex5vsknk084sn02q."}},
        "messages": {event.message.name: {"$ref": f"#/components/messages/{_id(event)}"}},
        "x-stream": stream_of(service),
    }


def _operations(said: list[Definition]) -> Iterator[tuple[str, dict[str, Any]]]:
    heard = {service: set(subscribed(service)) for service in services()}
    for one in said:
        service = service_of(one.full_name)
        yield f"{service}.sends.{one.message.name}", _operation(one, "send", service)
        for reader, names in heard.items():
            if one.full_name in names:
                yield f"{reader}.receives.{service}.{one.message.name}", _operation(one, "receive", reader)


def _operation(event: Definition, action: str, service: str) -> dict[str, Any]:
    channel = f"#/channels/{_id(event)}"
    operation: dict[str, Any] = {
        "action": action,
        "channel": {"$ref": channel},
        "tags": [{"name": service}],
        "messages": [{"$ref": f"{channel}/messages/{event.message.name}"}],
    }
    if action == "receive":
        operation["bindings"] = {"nats": {"queue": service}}
    return operation


def _message(event: Definition) -> dict[str, Any]:
    own = {"ce-type": {"const": event.full_name}, "ce-source": {"const": f"/regie/{service_of(event.full_name)}"}}
    return {
        "name": event.full_name,
        "title": event.message.name,
        "summary": event.comment,
        "contentType": "application/protobuf",
        "headers": {"allOf": [{"$ref": "#/components/schemas/EventHeaders"}, {"properties": own}]},
        "payload": {"$ref": f"#/components/schemas/{_id(event)}"},
    }


def _headers() -> dict[str, Any]:
    # Asked of the code that writes them, so that the document cannot tell of others.
    sample = headers_of(
        "regie.x.events.v1.X",
        event_id=new_id(),
        workspace_id=new_id(),
        time=datetime.now(UTC),
        traceparent="x",
        sequence=1,
    )
    return {
        "type": "object",
        "description": "CloudEvents 1.0 in binary mode, in the binding for NATS.",
        "required": [name for name in sample if name != "traceparent"],
        "properties": {name: {"type": "string", "description": HEADERS[name]} for name in sample},
    }


def _schema(one: Definition) -> dict[str, Any]:
    nested = {f".{one.full_name}.{entry.name}": entry for entry in one.message.nested_type}
    fields = enumerate(one.message.field)
    properties = {field.name: {**_type(field, nested), **_told(one.field_comments[n])} for n, field in fields}
    schema: dict[str, Any] = {"type": "object", "description": one.comment, "x-protobuf-message": one.full_name}
    return schema | {"properties": properties}


def _told(comment: str) -> dict[str, str]:
    return {"description": comment} if comment else {}


def _type(field: FieldDescriptorProto, nested: Mapping[str, DescriptorProto]) -> dict[str, Any]:
    entry = nested.get(field.type_name)
    if entry is not None and entry.options.map_entry:
        return {"type": "object", "additionalProperties": _single(entry.field[1])}
    if field.label == _Field.LABEL_REPEATED:
        return {"type": "array", "items": _single(field)}
    return _single(field)


def _single(field: FieldDescriptorProto) -> dict[str, Any]:
    if field.type == _Field.TYPE_ENUM:
        return {"type": "string", "enum": _enum_names(field.type_name.removeprefix("."))}
    if field.type != _Field.TYPE_MESSAGE:
        return dict(SCALARS[field.type])
    if field.type_name in WELL_KNOWN:
        return dict(WELL_KNOWN[field.type_name])
    _, _, service, _, _, name = field.type_name.split(".")
    return {"allOf": [{"$ref": f"#/components/schemas/{service}.{name}"}]}


def _enum_names(full_name: str) -> list[str]:
    return [name for name in names_of(descriptor_pool.Default().FindEnumTypeByName(full_name)).values() if name]


def _line(comment: str) -> str:
    return re.sub(r"\s+", " ", comment).strip()


def _descriptors() -> FileDescriptorSet:
    """Compiles the events files with their comments, which the generated code does not carry."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "events"
        status = protoc.main(
            [
                "protoc",
                f"-I{ROOT / 'proto'}",
                f"-I{files('grpc_tools') / '_proto'}",
                f"--descriptor_set_out={target}",
                "--include_source_info",
                *map(str, sorted((ROOT / "proto").rglob("*_events.proto"))),
            ]
        )
        if status:
            sys.exit("protoc failed; its messages are above")
        return FileDescriptorSet.FromString(target.read_bytes())


if __name__ == "__main__":
    rendered = render()
    if "--check" not in sys.argv[1:]:
        DOCUMENT.write_text(rendered)
    elif not DOCUMENT.exists() or DOCUMENT.read_text() != rendered:
        sys.exit("docs/asyncapi.yaml is not current; run: .venv/bin/python tools/asyncapi.py")
