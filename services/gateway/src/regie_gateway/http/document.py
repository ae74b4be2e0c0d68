"""The OpenAPI document: the framework's, with headers, security and names that it does not know."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from fastapi.openapi.utils import get_openapi
from starlette.routing import BaseRoute

from regie_gateway.http.operations import Operation
from regie_gateway.http.problems import Problem

TITLE = "Regie API"  # ASCII: generators make the name of a package of it
VERSION = "1.0.0"
DESCRIPTION = (
    "Régie plans posts, publishes them once and on time, and tells what they did. Every error is a problem document "
    "(RFC 9457) whose `reason` is stable. Every POST takes an `Idempotency-Key`. Lists go on with `page_token`."
)
LICENSE = {"name": "Apache License 2.0", "identifier": "Apache-2.0"}
SERVERS = [{"url": "/", "description": "Where this document came from."}]
HEADERS: dict[str, dict[str, Any]] = {
    "trace-id": {"description": "The W3C trace id of the request; to be quoted to support.", "type": "string"},
    "Location": {"description": "The path of what was made.", "type": "string"},
    "ETag": {"description": "The post's revision, for If-Match.", "type": "string"},
    "Idempotent-Replayed": {"description": "`true` on the stored answer to a repeated request.", "type": "string"},
    "Retry-After": {"description": "Seconds to wait before the next try.", "type": "integer"},
    "RateLimit": {"description": "What is left, and in how many seconds there is more.", "type": "string"},
    "RateLimit-Policy": {"description": "How many requests in how many seconds.", "type": "string"},
    "WWW-Authenticate": {"description": "The scheme of keys, and the error of the one that came.", "type": "string"},
}
OF_A_STATUS = {
    "401": ("WWW-Authenticate",),
    "409": ("Retry-After",),
    "429": ("Retry-After", "RateLimit", "RateLimit-Policy"),
    "503": ("Retry-After",),
    "504": ("Retry-After",),
}


def render(routes: Iterable[BaseRoute], operations: Iterable[Operation], tags: Mapping[str, str]) -> dict[str, Any]:
    """Returns the OpenAPI 3.1 document; `tags` are the descriptions of the operations' tags."""
    document: dict[str, Any] = get_openapi(
        title=TITLE,
        license_info=LICENSE,
        version=VERSION,
        description=DESCRIPTION,
        routes=list(routes),
        openapi_version="3.1.0",
        servers=SERVERS,
        tags=[{"name": name, "description": text} for name, text in tags.items()],
        separate_input_output_schemas=False,
    )
    components = document.setdefault("components", {})
    components.setdefault("schemas", {})["Problem"] = Problem.model_json_schema()
    components["headers"] = {
        name: {"description": header["description"], "schema": {"type": header["type"]}}
        for name, header in HEADERS.items()
    }
    components["securitySchemes"] = {
        "api_key": {"type": "http", "scheme": "bearer", "description": "An API key, `regie_…`."}
    }
    for operation in operations:
        described = document["paths"][operation.path][operation.method.lower()]
        for status, response in described["responses"].items():
            names = ("trace-id", *OF_A_STATUS.get(status, ()), *_of_an_answer(operation, status))
            response["headers"] = {name: {"$ref": f"#/components/headers/{name}"} for name in names}
    for schema in _titled(document):
        del schema["title"]
    return document


def _of_an_answer(operation: Operation, status: str) -> Iterator[str]:
    if status >= "300":
        return
    if operation.answer is not None and operation.answer.etag_field:
        yield "ETag"
    if operation.location:
        yield "Location"
    if operation.method == "POST":
        yield "Idempotent-Replayed"


def _titled(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yields the schemas with a title from a field's name: generators turn them into classes, and they clash."""
    named = {id(schema) for schema in document["components"]["schemas"].values()}
    level: list[Any] = [document]
    while level:
        value = level.pop()
        if isinstance(value, dict):
            if id(value) not in named and isinstance(value.get("title"), str) and value is not document["info"]:
                yield value
            level += [inner for name, inner in value.items() if name not in {"example", "examples"}]
        elif isinstance(value, list):
            level += value
