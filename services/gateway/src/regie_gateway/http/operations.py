"""The declaration of an endpoint: path, scope, body, and how OpenAPI describes it."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar, get_origin, get_type_hints

from fastapi import Request, Response

from regie_gateway.http.context import request_context
from regie_gateway.http.fields import View
from regie_gateway.http.preconditions import etag_of
from regie_gateway.http.responses import json_response
from regie_gateway.mapping.compiled import compile_view

Endpoint = TypeVar("Endpoint", bound=Callable[..., Awaitable[Any]])
Body = Literal["none", "json", "file"]

IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": (
        "Makes the request repeatable for 24 hours: sent again, it gets the first answer again. "
        "A new UUID for each new request does well."
    ),
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
}
IF_MATCH = {
    "name": "If-Match",
    "in": "header",
    "required": False,
    "description": (
        'The `ETag` of the post that you have seen, as in `"3"`, or `*`. '
        "A post that has another revision by now is left alone: 412."
    ),
    "schema": {"type": "string", "minLength": 1, "maxLength": 64, "pattern": '^(\\*|(W/)?"[!#-~]*")$'},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One endpoint. `scope` None stands for any valid key.

    `reads` is the scope that the answer's body takes beside `scope`: a key without it gets the effect, and a 204.
    """

    method: str
    path: str
    endpoint: Callable[..., Awaitable[Any]]
    scope: str | None
    summary: str
    description: str
    tag: str
    answer: type[View] | None
    status: int
    location: str
    body: Body
    problems: tuple[int, ...]
    reads: str | None
    if_match: bool
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """The operation id: the endpoint's own name."""
        return self.endpoint.__name__


class Operations:
    """The endpoints of one tag, in the order of their declaration.

    `description` is the tag's in the document; empty where another resource of the same tag has it.
    """

    def __init__(self, tag: str, description: str = "") -> None:
        self.tag = tag
        self.description = description
        self.all: list[Operation] = []

    def add(
        self,
        method: str,
        path: str,
        *,
        scope: str | None,
        summary: str,
        description: str,
        answer: type[View] | None = None,
        status: int = 200,
        location: str = "",
        body: Body = "none",
        problems: tuple[int, ...] = (),
        reads: str | None = None,
        if_match: bool = False,
        extra: dict[str, Any] | None = None,
    ) -> Callable[[Endpoint], Endpoint]:
        """Declares the decorated function as an endpoint.

        The endpoint gets the RequestContext, then its parameters, and returns a message or a row, which is shown with
        the fields of `answer`; a dict that has this form already; or a Response. `location` is a path with names of
        the answer's fields. `problems` are statuses beside those that follow from the form of the operation.
        """

        def declare(endpoint: Endpoint) -> Endpoint:
            operation = Operation(
                method=method,
                path=path,
                endpoint=endpoint,
                scope=scope,
                summary=summary,
                description=description,
                tag=self.tag,
                answer=answer,
                status=status,
                location=location,
                body=body,
                problems=problems,
                reads=reads,
                if_match=if_match,
                extra=dict(extra or {}),
            )
            self.all.append(operation)
            return endpoint

        return declare


def route_endpoint(operation: Operation) -> Callable[..., Awaitable[Response]]:
    """Returns the endpoint as FastAPI calls it: with the request in the place of its context, and a Response."""
    respond = _responder(operation)
    signature = inspect.signature(operation.endpoint, eval_str=True)
    context, *parameters = signature.parameters.values()

    async def endpoint(request: Request, **values: Any) -> Response:
        return respond(await operation.endpoint(request_context(request), **values))

    request = context.replace(name="request", annotation=Request)
    shown = signature.replace(parameters=[request, *parameters], return_annotation=Response)
    endpoint.__signature__ = shown  # type: ignore[attr-defined]  # read by FastAPI
    return endpoint


def _responder(operation: Operation) -> Callable[[Any], Response]:
    """Returns the function from an endpoint's result to its response."""
    returns = get_type_hints(operation.endpoint)["return"]
    answer, status, location = operation.answer, operation.status, operation.location
    if answer is None or returns is Response:
        return lambda response: response
    to_view = None if get_origin(returns) is dict else compile_view(returns, answer)
    tagged = answer.etag_field

    def respond(result: Any) -> Response:
        view = result if to_view is None else to_view(result)
        etag = etag_of(view[tagged]) if tagged else ""
        return json_response(view, status=status, location=location.format_map(view), etag=etag)

    return respond


def possible_problems(operation: Operation) -> tuple[int, ...]:
    """Returns the statuses of all problems that the operation can answer with."""
    statuses = {400, 401, 403, 422, 429, 500, 503, 504, *operation.problems}
    if "{" in operation.path:
        statuses.add(404)
    if operation.method != "GET":
        statuses |= {413, 415}  # a body that comes although none is taken is read as well
    if operation.method == "POST":
        statuses.add(409)
    if operation.if_match:
        statuses |= {409, 412}
    return tuple(sorted(statuses))
