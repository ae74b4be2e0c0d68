"""What an endpoint declares about itself: path, scope, body, and how OpenAPI describes it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from fastapi import Response
from pydantic import BaseModel

Endpoint = TypeVar("Endpoint", bound=Callable[..., Awaitable[Response]])
Body = Literal["none", "json", "image"]

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
    endpoint: Callable[..., Awaitable[Response]]
    scope: str | None
    summary: str
    description: str
    tag: str
    answer: type[BaseModel] | None
    status: int
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
    """The endpoints of one tag, in the order of their declaration."""

    def __init__(self, tag: str) -> None:
        self.tag = tag
        self.all: list[Operation] = []

    def add(
        self,
        method: str,
        path: str,
        *,
        scope: str | None,
        summary: str,
        description: str,
        answer: type[BaseModel] | None = None,
        status: int = 200,
        body: Body = "none",
        problems: tuple[int, ...] = (),
        reads: str | None = None,
        if_match: bool = False,
        extra: dict[str, Any] | None = None,
    ) -> Callable[[Endpoint], Endpoint]:
        """Declares the decorated function as an endpoint; `problems` are statuses beside those that follow from the
        form of the operation."""

        def declare(endpoint: Endpoint) -> Endpoint:
            self.all.append(
                Operation(
                    method=method,
                    path=path,
                    endpoint=endpoint,
                    scope=scope,
                    summary=summary,
                    description=description,
                    tag=self.tag,
                    answer=answer,
                    status=status,
                    body=body,
                    problems=problems,
                    reads=reads,
                    if_match=if_match,
                    extra=dict(extra or {}),
                )
            )
            return endpoint

        return declare


def possible_problems(operation: Operation) -> tuple[int, ...]:
    """Returns the statuses of all problems that the operation can answer with."""
    found = {400, 401, 403, 422, 429, 500, 503, 504, *operation.problems}
    if "{" in operation.path:
        found.add(404)
    if operation.method != "GET":
        found |= {413, 415}  # a body that comes although none is taken is read as well
    if operation.method == "POST":
        found.add(409)
    if operation.if_match:
        found |= {409, 412}
    return tuple(sorted(found))
