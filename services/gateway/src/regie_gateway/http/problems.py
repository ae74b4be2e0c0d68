"""Errors as problem+json (RFC 9457), with the headers that belong to them."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from opentelemetry import trace
from pydantic import BaseModel, Field
from pydantic.json_schema import SkipJsonSchema
from regie_chassis.boundary.errors import RegieError
from regie_chassis.boundary.validation import first_finding
from regie_chassis.data.database import is_transient
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from regie_gateway.http.fields import without_default

PROBLEM = "application/problem+json"
TYPE = "urn:regie:problem:"
HANG_UP = 499  # in spans only: the client has gone before its request was whole

# The framework's own messages for these only name the status.
WHAT_TO_DO = {
    404: "there is nothing at this address; /openapi.json lists what there is",
    405: "this address does not take that method; /openapi.json lists those it takes",
}

log = structlog.get_logger()


class Problem(BaseModel):
    """An error and its remedy (RFC 9457)."""

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


def problem_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Returns the OpenAPI responses for problems with these statuses."""
    content = {PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"description": MEANINGS[status], "content": content} for status in statuses}


def problem_body(status: int, reason: str, detail: str) -> dict[str, Any]:
    """Returns the members of every problem: `reason` is stable and for machines, `detail` names the next step."""
    return {
        "type": TYPE + reason.lower().replace("_", "-"),
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "reason": reason,
    }


def problem_response(
    status: int, reason: str, detail: str, *, field: str | None = None, retry_after: int | None = None
) -> JSONResponse:
    """Returns a problem, with the trace of the request where there is one.

    `field` is a JSON Pointer into the body, empty for the whole of it, or the name of a parameter.
    """
    body = problem_body(status, reason, detail)
    if field is not None:
        body["field"] = field
    span = trace.get_current_span().get_span_context()
    if span.is_valid:
        body["trace_id"] = f"{span.trace_id:032x}"
    headers = {"Retry-After": str(retry_after)} if retry_after is not None else None
    return JSONResponse(body, status, headers=headers, media_type=PROBLEM)


def error_response(error: RegieError, field: str | None = None) -> JSONResponse:
    """Returns the problem of an error, with its Retry-After, its challenge and its other headers."""
    retry_after = getattr(error, "retry_after", None)
    if retry_after is None and error.retryable:
        retry_after = 1
    response = problem_response(error.http_status, error.reason, error.message, field=field, retry_after=retry_after)
    if challenge := getattr(error, "challenge", None):
        response.headers["WWW-Authenticate"] = challenge
    response.headers.update(getattr(error, "headers", {}))
    return response


def add_problem_handlers(app: FastAPI) -> None:
    """Makes every error of the app a problem, foreseen or not."""
    app.add_exception_handler(RegieError, _on_regie_error)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(ClientDisconnect, _on_hang_up)
    app.add_exception_handler(Exception, _on_anything)


async def _on_regie_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RegieError)
    return error_response(error, error.field or None)


async def _on_invalid(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    finding = first_finding(error.errors(), error.body)
    detail = f"{finding.place or 'body'}: {finding.message}"
    return problem_response(finding.status, finding.reason, detail, field=finding.place)


async def _on_http(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    detail = WHAT_TO_DO.get(error.status_code, str(error.detail))
    response = problem_response(error.status_code, HTTPStatus(error.status_code).name, detail)
    response.headers.update(error.headers or {})
    return response


async def _on_hang_up(_: Request, error: Exception) -> Response:  # noqa: ARG001
    return Response(status_code=HANG_UP)  # nobody is there to read it, and nothing is wrong


async def _on_anything(request: Request, error: Exception) -> JSONResponse:
    if is_transient(error):
        log.warning("http.database_unavailable", path=request.url.path, error=type(error).__name__)
        detail = "the database does not answer or is too busy; try again in a moment"
        return problem_response(503, "SERVICE_UNAVAILABLE", detail, retry_after=1)
    log.error("http.failed", path=request.url.path, exc_info=error)
    return problem_response(500, "INTERNAL", "something failed on our side; it is logged under this trace")
