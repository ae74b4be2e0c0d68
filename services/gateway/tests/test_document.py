"""The OpenAPI document as generators and linters read it: a walk over all of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from regie_gateway.http.application import build_application
from regie_gateway.http.body_limit import FileLimits
from regie_gateway.http.document import HEADERS
from regie_gateway.http.inputs import query_names
from regie_gateway.resources.catalogue import RESOURCES

Place = tuple[str | int, ...]
Document = dict[str, Any]
MAPS = {"properties", "schemas", "patternProperties", "headers"}  # their keys are names, not words of a schema


@pytest.fixture(scope="module")
def document() -> Document:
    app = build_application(None, RESOURCES, body_limit=1024, file_limits=FileLimits(1024, 1024))  # type: ignore[arg-type]  # nothing is called
    return app.openapi()


def walk(value: Any, place: Place = ()) -> Iterator[tuple[Place, Any]]:
    yield place, value
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, one in inner:
        if name not in {"example", "examples"}:
            yield from walk(one, (*place, name))


def objects(document: Document) -> Iterator[tuple[Place, dict[str, Any]]]:
    """Yields all objects of the document but maps by name."""
    for place, value in walk(document):
        if isinstance(value, dict) and (not place or place[-1] not in MAPS):
            yield place, value


def operations(document: Document) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def test_the_head_makes_a_plain_name_and_leads_somewhere(document: Document) -> None:
    assert document["info"]["title"].isascii()
    assert document["servers"]
    assert document["openapi"].startswith("3.1")


def test_every_list_says_what_is_in_it(document: Document) -> None:
    assert not [place for place, schema in objects(document) if schema.get("type") == "array" and "items" not in schema]


def test_titles_are_those_of_components_and_unique(document: Document) -> None:
    components = document["components"]["schemas"]
    titles = {place: value["title"] for place, value in objects(document) if isinstance(value.get("title"), str)}
    assert titles.pop(("info",))
    assert titles == {("components", "schemas", name): name for name in components}


def test_no_component_comes_in_two_forms(document: Document) -> None:
    assert not [name for name in document["components"]["schemas"] if name.endswith(("-Input", "-Output"))]


def test_what_may_be_left_out_of_a_body_is_optional_for_every_generator(document: Document) -> None:
    # Some make required what has a default.
    assert not [place for place, schema in objects(document["components"]) if "default" in schema]


def test_every_reference_leads_to_something(document: Document) -> None:
    for _, schema in objects(document):
        if isinstance(schema.get("$ref"), str):
            found: Any = document
            for step in schema["$ref"].split("/")[1:]:
                found = found[step]


def test_every_choice_is_between_typed_forms(document: Document) -> None:
    for place, schema in objects(document):
        for one in [*schema.get("oneOf", ()), *schema.get("anyOf", ())]:
            assert one.keys() & {"$ref", "type", "enum", "const", "oneOf", "anyOf"}, place


def test_every_operation_and_parameter_is_described(document: Document) -> None:
    tags = {tag["name"] for tag in document["tags"] if tag["description"]}
    assert {tag for _, _, operation in operations(document) for tag in operation["tags"]} == tags
    for path, method, operation in operations(document):
        assert operation["summary"] != operation["description"], path
        assert operation["description"].endswith("."), (path, operation["description"])
        for parameter in operation.get("parameters", ()):
            assert parameter["description"], (path, method, parameter["name"])


def test_every_answer_tells_its_headers(document: Document) -> None:
    assert set(document["components"]["headers"]) == set(HEADERS)
    for path, method, operation in operations(document):
        for status, answer in operation["responses"].items():
            assert "trace-id" in answer["headers"], (path, status)
        assert {"Retry-After", "RateLimit", "RateLimit-Policy"} <= operation["responses"]["429"]["headers"].keys()
        named = {parameter["name"] for parameter in operation.get("parameters", ())}
        assert ("If-Match" in named) == ("412" in operation["responses"]), (path, method)


def test_states_and_kinds_are_closed_lists(document: Document) -> None:
    free = []
    for name, component in document["components"]["schemas"].items():
        for field, schema in component.get("properties", {}).items():
            if field in {"state", "failure_kind", "network", "visibility", "subject", "granularity", "occurrence"}:
                closed = "enum" in schema or all("enum" in one for one in schema.get("anyOf", [{}]))
                free += [] if closed else [(name, field)]
    # GET /v1/networks lists them; a channel of a network that is no longer offered is still shown.
    assert free == [("ChannelTotalsView", "network"), ("ChannelView", "network"), ("ConnectChannel", "network")]


def test_a_key_that_must_differ_has_no_example(document: Document) -> None:
    for path, _, operation in operations(document):
        keys = [one for one in operation.get("parameters", ()) if one["name"] == "Idempotency-Key"]
        assert not [one for one in keys if "example" in one or "examples" in one["schema"]], path


def test_parameters_that_may_come_several_times_are_lists(document: Document) -> None:
    declared = {operation.id: query_names(operation.endpoint) for part in RESOURCES for operation in part.all}
    for path, _, operation in operations(document):
        shown = {one["name"]: one["schema"] for one in operation.get("parameters", ()) if one["in"] == "query"}
        several = {name: schema.get("type") == "array" for name, schema in shown.items()}
        assert several == declared[operation["operationId"]], path
    assert {name for names in declared.values() for name, many in names.items() if many} == {"state", "types"}


def test_a_picture_is_sent_as_bytes_by_every_generator(document: Document) -> None:
    content = document["paths"]["/v1/media"]["post"]["requestBody"]["content"]
    assert content == {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}


def test_no_schema_is_empty(document: Document) -> None:
    assert not [place for place, value in walk(document) if value == {} and place[-1] in {"schema", "items"}]
