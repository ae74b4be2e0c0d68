"""The contracts: generated code is current, and every message keeps the conventions of the design."""

from __future__ import annotations

import os
import re
import runpy
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
import yaml
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import Descriptor, FileDescriptor, MethodDescriptor
from regie.ids.v1.prefixes import WORKSPACE
from regie_chassis.boundary.ids import new_id, show_id
from regie_chassis.events.contracts import all_events, options_of
from regie_chassis.events.messaging import service_of, stream_spec, subject_of

ROOT = Path(__file__).parents[2]
CONTRACTS = ROOT / "contracts"
READING = ("BatchGet", "Get", "List", "Preview")
# Of one post a channel each, of an installation a connector each: there is no second page.
OF_ONE_THING = {"ListDeliveries", "ListNetworks"}
SHARED = (["google", "protobuf"], ["regie", "events"], ["regie", "ids"])  # the latter two hold options alone
TIMESTAMP = "google.protobuf.Timestamp"
# What an event's name ends in: it is a fact, so a participle, or one of these words for what came to be.
NOT_PARTICIPLES = {"PostDue", "DeliveryUnknown", "DeliveryProcessing", "SegmentLeft", "ChannelNeedsAttention"}


def files() -> list[FileDescriptor]:
    """Returns the descriptors of all contracts."""
    found = sorted(CONTRACTS.rglob("*_pb2.py"))
    modules = [".".join(path.relative_to(CONTRACTS).with_suffix("").parts) for path in found]
    return [import_module(module).DESCRIPTOR for module in modules]


def messages() -> Iterator[Descriptor]:
    for file in files():
        yield from file.message_types_by_name.values()


def methods() -> list[MethodDescriptor]:
    return [method for file in files() for service in file.services_by_name.values() for method in service.methods]


def events() -> list[Descriptor]:
    """Returns the messages that travel on their own."""
    return [descriptor_pool.Default().FindMessageTypeByName(kind.DESCRIPTOR.full_name) for kind in all_events()]


def references(node: object) -> Iterator[str]:
    """Yields every $ref of a document."""
    if isinstance(node, dict):
        yield from (value for name, value in node.items() if name == "$ref" and isinstance(value, str))
    for value in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from references(value)


def contents(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix in {".py", ".pyi"}
    }


def test_the_generated_code_is_that_of_the_protos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    runpy.run_path(str(ROOT / "tools" / "protos.py"))["generate"](tmp_path)
    made, kept = contents(tmp_path / "regie"), contents(CONTRACTS / "regie")
    assert made.keys() == kept.keys()
    changed = sorted(name for name in made if made[name] != kept[name])
    assert not changed, f"generate again with `make protos`: {changed}"


def test_the_asyncapi_document_is_that_of_the_events() -> None:
    rendered = runpy.run_path(str(ROOT / "tools" / "asyncapi.py"))["render"]()
    assert (ROOT / "docs" / "asyncapi.yaml").read_text() == rendered, "run: .venv/bin/python tools/asyncapi.py"


def test_every_reference_in_the_asyncapi_document_leads_somewhere() -> None:
    document = yaml.safe_load((ROOT / "docs" / "asyncapi.yaml").read_text())
    found = set(references(document))
    assert found
    for reference in found:
        place = document
        for part in reference.removeprefix("#/").split("/"):
            place = place[part]


def test_every_event_that_is_said_is_heard_by_someone() -> None:
    document = yaml.safe_load((ROOT / "docs" / "asyncapi.yaml").read_text())
    heard = {one["channel"]["$ref"] for one in document["operations"].values() if one["action"] == "receive"}
    unheard = {f"#/channels/{channel}" for channel in document["channels"]} - heard
    assert not unheard


def test_no_message_is_common_to_services() -> None:
    assert not [path for path in (ROOT / "proto").rglob("*.proto") if re.search("common|shared|types", path.stem)]
    for file in files():
        foreign = [
            dependency.name
            for dependency in file.dependencies
            if dependency.package.split(".")[:2] not in (*SHARED, file.package.split(".")[:2])
        ]
        assert not foreign, f"{file.name} borrows from another service: {foreign}"


def test_every_rpc_has_a_request_and_a_response_of_its_own() -> None:
    assert methods()
    for method in methods():
        assert (method.input_type.name, method.output_type.name) == (f"{method.name}Request", f"{method.name}Response")
        assert re.match("[A-Z][a-z]+[A-Z]", method.name), f"{method.full_name} is no verb and noun"


def test_every_mutation_has_a_request_id_and_no_reading_has_one() -> None:
    for method in methods():
        reading = method.name.startswith(READING)
        assert ("request_id" in method.input_type.fields_by_name) is not reading, method.full_name


def test_no_request_carries_the_workspace_which_is_the_verified_callers() -> None:
    for method in methods():
        assert "workspace_id" not in method.input_type.fields_by_name, method.full_name


def test_lists_are_paged_the_same_way_everywhere() -> None:
    for method in methods():
        if method.name.startswith("List") and method.name not in OF_ONE_THING:
            asked, answered = method.input_type.fields_by_name, method.output_type.fields_by_name
            assert {"page_size", "page_token"} <= set(asked), method.full_name
            assert "next_page_token" in answered, method.full_name


def test_a_point_in_time_is_named_for_it_and_nothing_else_is() -> None:
    wrong = []
    for message in messages():
        for field in message.fields:
            is_time = field.message_type is not None and field.message_type.full_name == TIMESTAMP
            local = field.name.endswith("_local_time")  # wall time without a zone is text
            # In an entry of a history, the entry itself is what happened, so its moment needs no verb.
            named = field.name.endswith("_time") or field.name == "time"
            if is_time != (named and not local):
                wrong.append(f"{message.full_name}.{field.name}")
    assert not wrong


def test_a_message_of_an_events_file_is_an_event_or_a_part_of_one() -> None:
    said = [one for one in messages() if re.search(r"\.\w+\.events\.v\d+\.", one.full_name)]
    parts = {field.message_type.full_name for message in said for field in message.fields if field.message_type}
    assert {one.full_name for one in events()} == {one.full_name for one in said} - parts


def test_every_event_names_what_it_is_about() -> None:
    for kind in all_events():
        about = options_of(kind).about
        field = kind.DESCRIPTOR.fields_by_name[about]
        assert (about[-3:], field.type, field.is_repeated) == ("_id", field.TYPE_STRING, False), kind


def test_every_event_is_a_fact() -> None:
    names = {event.name for event in events()}
    assert not {name for name in names - NOT_PARTICIPLES if not name.endswith("ed")}
    assert names >= NOT_PARTICIPLES, "an exception that no event needs"


def test_every_event_has_a_subject_of_its_own_in_its_services_stream() -> None:
    workspace = new_id()
    subjects = [subject_of(event.full_name, workspace) for event in events()]
    assert len(set(subjects)) == len(subjects)
    for event, subject in zip(events(), subjects, strict=True):
        (pattern,) = stream_spec(service_of(event.full_name)).subjects
        assert subject.startswith(pattern.removesuffix(">"))
        assert re.fullmatch(r"regie\.[a-z]+\.v\d+\.[a-z]+(_[a-z]+)*\.ws_[0-9a-z]{26}", subject), subject
        assert subject.endswith(show_id(WORKSPACE, workspace))


def test_an_event_carries_business_fields_only() -> None:
    in_headers = {"event_id", "trace_id", "traceparent", "event_time"}
    for event in events():
        assert not in_headers & set(event.fields_by_name), event.full_name
