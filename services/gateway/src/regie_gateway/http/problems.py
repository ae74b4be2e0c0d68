"""Errors as problem+json with the headers that belong to them."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from pydantic.json_schema import SkipJsonSchema
from regie_chassis.errors import Invalid, RegieError
from regie_chassis.http import PROBLEM, add_problem_handlers, problem

from regie_gateway.rest.fields import without_default


class UnsupportedMediaType(Invalid):
    """The body is of another type than the endpoint takes."""

    http_status = 415


class Problem(BaseModel):
    """What went wrong and what to do about it (RFC 9457)."""

    type: str = Field(examples=["urn:regie:problem:post-not-found"])
    title: str = Field(description="The status in words.", examples=["Not Found"])
    status: int = Field(examples=[404])
    detail: str = Field(description="What to do next.", examples=["there is no such post in this workspace"])
    reason: str = Field(description="Stable, for programs.", examples=["POST_NOT_FOUND"])
    field: str | SkipJsonSchema[None] = Field(
        default=None,
        description=(
            "What is to blame: a JSON Pointer into the body (it begins with `/`, and is empty for the whole body), or "
            "the bare name of a path, query or header parameter. Absent where nothing single is."
        ),
        examples=["/variants/0/text"],
        json_schema_extra=without_default,
    )
    trace_id: str | SkipJsonSchema[None] = Field(
        default=None, description="To be quoted to support.", json_schema_extra=without_default
    )


MEANINGS = {
    400: "The request can never succeed as it is.",
    401: "No valid API key came with the request.",
    403: "The API key lacks the scope.",
    404: "No such thing in the workspace.",
    405: "The path takes other methods.",
    409: "The thing's state does not allow it now, or the first request with this key is still at work.",
    410: "The event to go on from is not kept any more.",
    412: "The post has another revision than If-Match names; nothing was done.",
    413: "The body is too large.",
    415: "The body is of another type than the endpoint takes.",
    422: "The body or a parameter is not as described here, or the idempotency key came with another request.",
    429: "Too many requests; Retry-After says when.",
    500: "Something failed on our side.",
    503: "Something behind, or the network to connect to, does not answer; try again.",
    504: "Something behind took too long; try again with the same idempotency key.",
}


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Returns the OpenAPI responses for problems with these statuses."""
    content = {PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"description": MEANINGS[status], "content": content} for status in statuses}


def answer_of(error: RegieError, field: str | None = None) -> JSONResponse:
    """Returns the problem answer of an error, with its Retry-After, its challenge and what else it says in headers."""
    retry_after = getattr(error, "retry_after", None)
    if retry_after is None and error.retryable:
        retry_after = 1
    answer = problem(error.http_status, error.reason, error.message, field=field, retry_after=retry_after)
    if challenge := getattr(error, "challenge", None):
        answer.headers["WWW-Authenticate"] = challenge
    answer.headers.update(getattr(error, "headers", {}))
    return answer


def add_handlers(app: FastAPI) -> None:
    """Makes every error of the app a problem answer."""

    async def on_regie_error(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RegieError)
        return answer_of(error, error.field or None)

    add_problem_handlers(app)
    app.add_exception_handler(RegieError, on_regie_error)
