"""REST at the edge: errors become problem+json (RFC 9457), and a body is refused before it is read whole."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from opentelemetry import trace
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from regie_chassis.database import is_transient
from regie_chassis.errors import RegieError, TooLarge
from regie_chassis.validation import first_finding

PROBLEM = "application/problem+json"
TYPE = "urn:regie:problem:"
HANG_UP = 499  # in spans only: the client has gone before its request was whole
DRAIN_LIMIT = 16 * 1024 * 1024  # bytes of a refused body that are still taken, so that its sender sees the answer
DRAIN_TIMEOUT = 5.0  # seconds

# The framework's own words for these only name the status.
WHAT_TO_DO = {
    404: "there is nothing at this address; /openapi.json lists what there is",
    405: "this address does not take that method; /openapi.json lists those it takes",
}

log = structlog.get_logger()


class RequestTooLarge(TooLarge):
    """The body is larger than this endpoint takes."""


def problem_body(status: int, reason: str, detail: str) -> dict[str, Any]:
    """Returns what every problem has: `reason` is stable and for machines, `detail` says what to do."""
    return {
        "type": TYPE + reason.lower().replace("_", "-"),
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "reason": reason,
    }


def problem(
    status: int, reason: str, detail: str, *, field: str | None = None, retry_after: int | None = None
) -> JSONResponse:
    """Returns a problem answer, with the field that is to blame and the trace where there are such.

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


def problem_of(error: RegieError) -> JSONResponse:
    """Returns the problem answer for one of our own errors."""
    retry_after = 1 if error.retryable else None
    return problem(error.http_status, error.reason, error.message, field=error.field or None, retry_after=retry_after)


def add_problem_handlers(app: FastAPI) -> None:
    """Makes every error of the app a problem answer, foreseen or not."""

    async def on_regie_error(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RegieError)
        return problem_of(error)

    async def on_invalid(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        found = first_finding(error.errors(), error.body)
        return problem(found.status, found.reason, f"{found.place or 'body'}: {found.message}", field=found.place)

    async def on_http(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        reason = HTTPStatus(error.status_code).name
        answer = problem(error.status_code, reason, WHAT_TO_DO.get(error.status_code, str(error.detail)))
        answer.headers.update(error.headers or {})
        return answer

    async def on_hang_up(_: Request, error: Exception) -> Response:  # noqa: ARG001
        return Response(status_code=HANG_UP)  # nobody is there to read it, and nothing is wrong

    async def on_anything(request: Request, error: Exception) -> JSONResponse:
        if is_transient(error):
            log.warning("http.database_unavailable", path=request.url.path, error=type(error).__name__)
            return problem(
                503,
                "SERVICE_UNAVAILABLE",
                "the database does not answer or is too busy; try again in a moment",
                retry_after=1,
            )
        log.error("http.failed", path=request.url.path, exc_info=error)
        return problem(500, "INTERNAL", "something failed on our side; it is logged under this trace")

    app.add_exception_handler(RegieError, on_regie_error)
    app.add_exception_handler(RequestValidationError, on_invalid)
    app.add_exception_handler(HTTPException, on_http)
    app.add_exception_handler(ClientDisconnect, on_hang_up)
    app.add_exception_handler(Exception, on_anything)


class BodyLimit:
    """ASGI middleware: refuses a body past its limit while it streams in, whatever Content-Length says."""

    def __init__(self, app: ASGIApp, *, limit: int, limits: dict[str, int] | None = None) -> None:
        self._app = app
        self._limit = limit
        self._limits = limits or {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = self._limits.get(scope["path"], self._limit)
        declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        # Ten digits are more than any limit, and int() refuses thousands of them.
        if not declared.isdigit() or len(declared) > 10 or int(declared) > limit:
            await _refuse(limit, receive, send)
            return
        body = _Counted(limit, receive, send)
        try:
            await self._app(scope, body.receive, body.send)
        except RequestTooLarge:
            if body.answered:
                raise
        if body.too_large and not body.answered:
            await _refuse(limit, receive, send)


class _Counted:
    """A request's body while it is read; an answer to a body that was cut is held back, since ours follows."""

    def __init__(self, limit: int, receive: Receive, send: Send) -> None:
        self._limit = limit
        self._receive = receive
        self._send = send
        self._seen = 0
        self.answered = False

    @property
    def too_large(self) -> bool:
        return self._seen > self._limit

    async def receive(self) -> Message:
        message = await self._receive()
        self._seen += len(message.get("body", b""))
        if self.too_large:
            raise RequestTooLarge(f"the body is larger than {self._limit} bytes; send less")
        return message

    async def send(self, message: Message) -> None:
        if self.too_large and not self.answered:
            return  # a framework calls the torn body malformed
        self.answered = True
        await self._send(message)


async def _refuse(limit: int, receive: Receive, send: Send) -> None:
    answer = problem_of(RequestTooLarge(f"the body is larger than {limit} bytes; send less"))
    answer.headers["Connection"] = "close"
    await send({"type": "http.response.start", "status": answer.status_code, "headers": answer.raw_headers})
    await send({"type": "http.response.body", "body": answer.body, "more_body": True})
    # The answer is out whole. A connection closed under a client that still sends would take it away again.
    with suppress(TimeoutError):
        async with asyncio.timeout(DRAIN_TIMEOUT):
            await _drain(receive)
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _drain(receive: Receive) -> None:
    seen = 0
    while seen <= DRAIN_LIMIT:
        message = await receive()
        seen += len(message.get("body", b""))
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            return
