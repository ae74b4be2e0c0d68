"""The limit on request bodies: a body is refused while it streams in, before it is read whole."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from regie_chassis.boundary.errors import TooLarge
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from regie_gateway.http.problems import error_response

DRAIN_LIMIT = 16 * 1024 * 1024  # bytes of a refused body that are still taken, so that its sender sees the answer
DRAIN_TIMEOUT = 5.0  # seconds


class RequestTooLarge(TooLarge):
    """The body is larger than this endpoint takes."""


class BodyLimit:
    """ASGI middleware: refuses a body past its limit while it streams in, regardless of Content-Length."""

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
    answer = error_response(RequestTooLarge(f"the body is larger than {limit} bytes; send less"))
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
