"""The comparison behind `make openapi-check`: a document may grow, and nothing that clients use may go or narrow."""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
BASELINE = json.loads((ROOT / "contracts" / "baseline" / "openapi.json").read_text())
Document = dict[str, Any]
BreakingChanges = Callable[[Document, Document], list[str]]


@pytest.fixture(scope="module")
def breaking_changes() -> BreakingChanges:
    folder = str(ROOT / "tools" / "openapi")
    sys.path.insert(0, folder)
    try:
        compare: BreakingChanges = import_module("compare").breaking_changes
    finally:
        sys.path.remove(folder)
    return compare


def schema(document: Document, name: str) -> Document:
    found: Document = document["components"]["schemas"][name]
    return found


def operation(document: Document, method: str, path: str) -> Document:
    found: Document = document["paths"][path][method]
    return found


BREAKING: dict[str, Callable[[Document], object]] = {
    "DELETE /v1/channels/{channel_id} is gone": lambda new: new["paths"]["/v1/channels/{channel_id}"].pop("delete"),
    "GET /v1/posts is called list_all now": lambda new: operation(new, "get", "/v1/posts").update(
        operationId="list_all"
    ),
    "GET /v1/posts has no parameter state any more": lambda new: operation(new, "get", "/v1/posts").update(
        parameters=[one for one in operation(new, "get", "/v1/posts")["parameters"] if one["name"] != "state"]
    ),
    "GET /v1/posts requires the parameter zone now": lambda new: operation(new, "get", "/v1/posts")[
        "parameters"
    ].append({"in": "query", "name": "zone", "required": True, "schema": {"type": "string"}}),
    "GET /v1/posts takes other scopes": lambda new: operation(new, "get", "/v1/posts").update(
        security=[{"api_key": ["posts:all"]}]
    ),
    "GET /v1/posts does not answer 200 any more": lambda new: operation(new, "get", "/v1/posts")["responses"].pop(
        "200"
    ),
    "GET /v1/posts 200 has no header trace-id any more": lambda new: operation(new, "get", "/v1/posts")["responses"][
        "200"
    ]["headers"].pop("trace-id"),
    "GET /v1/posts 200 has no application/json any more": lambda new: operation(new, "get", "/v1/posts")["responses"][
        "200"
    ].update(content={}),
    "GET /v1/posts 200/posts/[]/title is gone": lambda new: schema(new, "PostView")["properties"].pop("title"),
    "GET /v1/posts 200/posts/[]/title may be absent now": lambda new: schema(new, "PostView")["required"].remove(
        "title"
    ),
    "GET /v1/posts 200/posts/[]/title can be null now": lambda new: schema(new, "PostView")["properties"].update(
        title={"anyOf": [{"type": "string"}, {"type": "null"}]}
    ),
    "GET /v1/posts 200/posts/[]/revision is no integer any more": lambda new: schema(new, "PostView")[
        "properties"
    ].update(revision={"type": "string"}),
    "GET /v1/posts 200/posts/[]/state has no value 'missed' any more": lambda new: schema(new, "PostView")[
        "properties"
    ]["state"]["enum"].remove("missed"),
    "POST /v1/posts body/campaign is required now": lambda new: schema(new, "CreatePost")["required"].append(
        "campaign"
    ),
    "POST /v1/posts body/title has a lower maxLength: 10": lambda new: schema(new, "CreatePost")["properties"][
        "title"
    ].update(maxLength=10),
    "POST /v1/posts body/title has a higher minLength: 1": lambda new: schema(new, "CreatePost")["properties"][
        "title"
    ].update(minLength=1),
    "POST /v1/posts body/title has another pattern": lambda new: schema(new, "CreatePost")["properties"][
        "title"
    ].update(pattern="^A"),
    "POST /v1/posts body/title is a closed list now": lambda new: schema(new, "CreatePost")["properties"][
        "title"
    ].update(enum=["A"]),
    "POST /v1/posts body/variants/[]/visibility has no value 'direct' any more": lambda new: schema(
        new, "TextVariantBody"
    )["properties"]["visibility"]["enum"].remove("direct"),
    "POST /v1/posts body/variants/[] is no ThreadVariantBody any more": lambda new: schema(new, "CreatePost")[
        "properties"
    ]["variants"].update(items={"$ref": "#/components/schemas/TextVariantBody"}),
    "POST /v1/media body has no application/octet-stream any more": lambda new: operation(new, "post", "/v1/media")[
        "requestBody"
    ].update(content={"image/png": {"schema": {}}}),
    "POST /v1/posts/{post_id}/cancel body is required now": lambda new: operation(
        new, "post", "/v1/posts/{post_id}/cancel"
    ).update(requestBody={"required": True, "content": {"application/json": {"schema": {"type": "object"}}}}),
}

GROWTH: dict[str, Callable[[Document], object]] = {
    "an operation": lambda new: new["paths"].update({"/v1/campaigns": {"get": operation(new, "get", "/v1/posts")}}),
    "an optional parameter": lambda new: operation(new, "get", "/v1/posts")["parameters"].append(
        {"in": "query", "name": "zone", "required": False, "schema": {"type": "string"}}
    ),
    "a field of an answer": lambda new: schema(new, "PostView")["properties"].update(campaign={"type": "string"}),
    "an optional field of a body": lambda new: schema(new, "CreatePost")["properties"].update(
        campaign={"type": "string"}
    ),
    "a field that may be absent from a body": lambda new: schema(new, "CreatePost")["required"].remove("title"),
    "a wider bound": lambda new: schema(new, "CreatePost")["properties"]["title"].update(maxLength=5000),
    "a state": lambda new: schema(new, "PostView")["properties"]["state"]["enum"].append("approved"),
    "another form of a body": lambda new: schema(new, "CreatePost")["properties"].update(
        title={"anyOf": [schema(new, "CreatePost")["properties"]["title"], {"type": "null"}]}
    ),
    "a problem": lambda new: operation(new, "get", "/v1/posts")["responses"].update(
        {"451": {"description": "No.", "content": {}}}
    ),
}


def test_a_document_does_not_break_itself(breaking_changes: BreakingChanges) -> None:
    assert breaking_changes(BASELINE, copy.deepcopy(BASELINE)) == []


@pytest.mark.parametrize("finding", BREAKING)
def test_what_breaks_clients_is_found(breaking_changes: BreakingChanges, finding: str) -> None:
    new = copy.deepcopy(BASELINE)
    BREAKING[finding](new)
    assert any(change.startswith(finding) for change in breaking_changes(BASELINE, new))


@pytest.mark.parametrize("what", GROWTH)
def test_growth_breaks_nothing(breaking_changes: BreakingChanges, what: str) -> None:
    new = copy.deepcopy(BASELINE)
    GROWTH[what](new)
    assert breaking_changes(BASELINE, new) == []
