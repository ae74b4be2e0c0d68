"""Mastodon's OpenAPI description, to hold exchanges against. It is read from outside: its licence is not ours."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest


def load_description(repository: Path) -> Description:
    """Reads it from REGIE_SPECS, by default beside the repository; without it the test is skipped, in CI failed."""
    path = Path(os.environ.get("REGIE_SPECS", repository / "../shared/specs")) / "mastodon" / "openapi.json"
    if not path.exists():
        missing = f"Mastodon's OpenAPI description is missing: put it at {path} or set REGIE_SPECS"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    return Description(json.loads(path.read_text()))


class Description:
    """Mastodon's OpenAPI description, as far as names, values and types go: servers leave required members out."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._document = document

    def check(self, request: httpx2.Request, response: httpx2.Response) -> None:
        operation = self._operation(request)
        parameters = {(each["in"], each["name"]) for each in operation.get("parameters", [])}
        for name in request.url.params:
            assert ("query", name) in parameters, f"unknown query parameter {name}"
        if "Idempotency-Key" in request.headers:
            assert ("header", "Idempotency-Key") in parameters
        self._check_request_body(request, operation)
        assert str(response.status_code) in operation["responses"], f"undescribed status {response.status_code}"
        answers = operation["responses"][str(response.status_code)].get("content")
        if answers and "json" in response.headers["content-type"]:
            self._compare(response.json(), answers["application/json"]["schema"], "answer")

    def _operation(self, request: httpx2.Request) -> dict[str, Any]:
        # A described path without parameters wins over one with: /accounts/verify_credentials over /accounts/{id}.
        for path in sorted(self._document["paths"], key=lambda path: path.count("{")):
            if re.fullmatch(re.sub(r"\{[^}]*\}", "[^/]+", path), request.url.path):
                found: dict[str, Any] = self._document["paths"][path][request.method.lower()]
                return found
        raise AssertionError(f"undescribed path {request.url.path}")

    def _check_request_body(self, request: httpx2.Request, operation: dict[str, Any]) -> None:
        if not request.content:
            return
        kind = request.headers["Content-Type"].partition(";")[0]
        schema = operation["requestBody"]["content"][kind]["schema"]
        if kind == "application/json":
            self._compare(json.loads(request.content), schema, "body")
        else:
            names = set(re.findall(rb'form-data; name="(\w+)"', request.content))
            assert {name.decode() for name in names} <= set(self._properties(schema))

    def _compare(self, value: object, schema: dict[str, Any], where: str) -> None:
        kinds = list(self._unfold(schema))
        if isinstance(value, dict):
            known = self._properties(schema)
            for name, member in value.items():
                if known:
                    assert name in known, f"{where} has no {name}"
                    self._compare(member, known[name], f"{where}.{name}")
        elif isinstance(value, list):
            items = [kind["items"] for kind in kinds if "items" in kind]
            assert items, f"{where} is no list"
            for member in value:
                self._compare(member, items[0], where)
        else:
            values = [allowed for kind in kinds for allowed in kind.get("enum", [])]
            assert not values or value is None or value in values, f"{where} may not be {value!r}"
            types = {name for kind in kinds for name in _listed(kind.get("type", []))}
            assert not types or _type(value) in types, f"{where} is {_type(value)} instead of {types}"

    def _properties(self, schema: dict[str, Any]) -> dict[str, Any]:
        return {name: each for kind in self._unfold(schema) for name, each in kind.get("properties", {}).items()}

    def _unfold(self, schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
        yield schema
        if "$ref" in schema:
            yield from self._unfold(self._document["components"]["schemas"][schema["$ref"].rpartition("/")[2]])
        for word in ("allOf", "oneOf", "anyOf"):
            for part in schema.get(word, []):
                yield from self._unfold(part)


def _listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def _type(value: object) -> str:
    names = {type(None): "null", bool: "boolean", int: "integer", float: "number", str: "string"}
    return names[type(value)]
