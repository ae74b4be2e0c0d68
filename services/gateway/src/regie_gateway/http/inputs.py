"""Refuses the input that a framework drops silently: unknown and repeated parameters, and needless bodies."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, get_origin, get_type_hints
from urllib.parse import parse_qsl

from fastapi import Request, Response
from pydantic import BaseModel
from regie_chassis.boundary.errors import Invalid, Unprocessable

from regie_gateway.http.fields import Body

SINGLE_HEADERS = {
    name.lower().encode(): name
    for name in (
        "Authorization",
        "Content-Type",
        "Content-Encoding",
        "Idempotency-Key",
        "If-Match",
        "Last-Event-ID",
    )
}


class InvalidRequest(Unprocessable):
    """A parameter or the body does not have the form in the document."""


class UnsupportedMediaType(Invalid):
    """The body is of another type than the endpoint takes."""

    http_status = 415


class UnreadParameter(InvalidRequest):
    """A query parameter is unknown to the operation. Its name is reported as it came."""

    reason = "INVALID_REQUEST"


def query_names(endpoint: Callable[..., Awaitable[Response]]) -> dict[str, bool]:
    """Returns the query parameters that an endpoint reads, and whether each may come several times."""
    names: dict[str, bool] = {}
    for kind in get_type_hints(endpoint).values():
        if isinstance(kind, type) and issubclass(kind, BaseModel) and not issubclass(kind, Body):
            for name, field in kind.model_fields.items():
                names[name] = get_origin(field.annotation) is list
    return names


def check_query(query: bytes, names: Mapping[str, bool]) -> None:
    """Raises InvalidRequest for a parameter that is not read, or comes more often than it is read."""
    if not query:
        return
    seen: set[str] = set()
    for name, _ in parse_qsl(query.decode("latin-1"), keep_blank_values=True):
        if name not in names:
            taken = f"; it takes {', '.join(names)}" if names else ""
            raise UnreadParameter(f"there is no parameter {name[:80]!r} here{taken}", field=name[:80])
        if name in seen and not names[name]:
            raise UnreadParameter(f"{name} came more than once; give it once", field=name)
        seen.add(name)


def check_headers(request: Request) -> None:
    """Raises InvalidRequest for a header that decides something and comes more than once."""
    given = [key for key, _ in request.scope["headers"] if key in SINGLE_HEADERS]
    if len(given) > 1 and len(given) > len(set(given)):
        name = SINGLE_HEADERS[next(key for key in given if given.count(key) > 1)]
        raise InvalidRequest(f"the header {name} came more than once; send it once", field=name)


def check_no_body(value: Any) -> None:
    """Raises InvalidRequest for a body of an operation that takes none; an empty object is let through."""
    if value not in (None, {}):
        raise InvalidRequest("this operation takes no body; send none")
