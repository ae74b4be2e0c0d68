"""Compares two versions of an OpenAPI document, and finds changes that break clients of the older one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from schemas import Comparison, Document

Operation = Mapping[str, Any]


def breaking_changes(old: Document, new: Document) -> list[str]:
    """Returns removed and narrowed parts, each with its place; nothing for a document that has only grown."""
    return list(_changes(old, new))


def _changes(old: Document, new: Document) -> Iterator[str]:
    for path, methods in old["paths"].items():
        for method, operation in methods.items():
            place = f"{method.upper()} {path}"
            current = new["paths"].get(path, {}).get(method)
            if current is None:
                yield f"{place} is gone"
            else:
                yield from _of_operation(_Versions(old, new), place, operation, current)


class _Versions:
    """The comparisons of both sides."""

    def __init__(self, old: Document, new: Document) -> None:
        self.requests = Comparison(old, new, request=True)
        self.answers = Comparison(old, new, request=False)


def _of_operation(versions: _Versions, place: str, old: Operation, new: Operation) -> Iterator[str]:
    if old["operationId"] != new["operationId"]:
        yield f"{place} is called {new['operationId']} now"
    if old.get("security") != new.get("security"):
        yield f"{place} takes other scopes: {new.get('security')}"
    yield from _of_parameters(versions, place, old, new)
    yield from _of_body(versions, f"{place} body", old.get("requestBody"), new.get("requestBody"))
    for status, answer in old["responses"].items():
        if status not in new["responses"]:
            if status < "400":
                yield f"{place} does not answer {status} any more"
        else:
            yield from _of_answer(versions, f"{place} {status}", answer, new["responses"][status])


def _of_parameters(versions: _Versions, place: str, old: Operation, new: Operation) -> Iterator[str]:
    before, after = _parameters(old), _parameters(new)
    for key in sorted(before.keys() - after.keys()):
        yield f"{place} has no parameter {key[1]} any more"
    for key, parameter in after.items():
        was = before.get(key, {})
        if parameter.get("required") and not was.get("required"):
            yield f"{place} requires the parameter {key[1]} now"
        if was:
            yield from versions.requests.changes(f"{place} {key[1]}", was["schema"], parameter["schema"])


def _parameters(operation: Operation) -> dict[tuple[str, str], Mapping[str, Any]]:
    return {(one["in"], one["name"]): one for one in operation.get("parameters", ())}


def _of_body(
    versions: _Versions, place: str, old: Mapping[str, Any] | None, new: Mapping[str, Any] | None
) -> Iterator[str]:
    if new is None:
        if old is not None:
            yield f"{place} is gone"
        return
    if new.get("required") and not (old or {}).get("required"):
        yield f"{place} is required now"
    if old is not None:
        yield from _of_content(versions.requests, place, old["content"], new["content"])


def _of_answer(versions: _Versions, place: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    for name in sorted(old.get("headers", {}).keys() - new.get("headers", {}).keys()):
        yield f"{place} has no header {name} any more"
    yield from _of_content(versions.answers, place, old.get("content", {}), new.get("content", {}))


def _of_content(comparison: Comparison, place: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    for kind, media in old.items():
        if kind not in new:
            yield f"{place} has no {kind} any more"
        else:
            yield from comparison.changes(place, media["schema"], new[kind]["schema"])
