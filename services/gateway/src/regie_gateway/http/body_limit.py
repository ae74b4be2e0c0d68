"""The limit on request bodies: a body is refused while it streams in, before it is read whole."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from regie_chassis.boundary.errors import TooLarge
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from regie_gateway.http.problems import error_response

DRAIN_LIMIT = 16 * 1024 * 1024  # bytes of a refused body that are still taken, so that its sender sees the answer
DRAIN_TIMEOUT = 5.0  # seconds
HEAD = 8  # bytes from which the kind of a file is told


class RequestTooLarge(TooLarge):
    """The body is larger than this endpoint takes."""


@dataclass(frozen=True, slots=True)
class FileLimits:
    """Bytes of an uploaded file, by the kind that its first bytes tell."""

    picture: int
    video: int

    def of(self, head: bytes) -> int:
        """Returns the limit of a file that begins so."""
        return self.video if head[4:8] == b"ftyp" else self.picture


class BodyLimit:
    """ASGI middleware: refuses a body past its limit while it streams in, regardless of Content-Length."""

    def __init__(self, app: ASGIApp, *, limit: int, files: Mapping[str, FileLimits] | None = None) -> None:
        self._app = app
        self._limits = FileLimits(limit, limit)
        self._files = files or {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limits = self._files.get(scope["path"], self._limits)
        largest = max(limits.picture, limits.video)
        declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        # Ten digits are more than any limit, and int() refuses thousands of them.
        if not declared.isdigit() or len(declared) > 10 or int(declared) > largest:
            await _refuse(largest, receive, send)
            return
        body = _Counted(limits, int(declared), receive, send)
        try:
            await self._app(scope, body.receive, body.send)
        except RequestTooLarge:
            if body.answered:
                raise
        if body.too_large and not body.answered:
            await _refuse(body.limit, receive, send)


class _Counted:
    """A request's body while it is read; an answer to a body that was cut is held back, since ours follows."""

    def __init__(self, limits: FileLimits, declared: int, receive: Receive, send: Send) -> None:
        self._limits = limits
        self._declared = declared
        self._head = b""
        self.limit = max(limits.picture, limits.video)
        self._receive = receive
        self._send = send
        self._seen = 0
        self.answered = False

    @property
    def too_large(self) -> bool:
        return max(self._seen, self._declared) > self.limit

    async def receive(self) -> Message:
        message = await self._receive()
        chunk = message.get("body", b"")
        self._seen += len(chunk)
        if len(self._head) < HEAD:
            self._head += chunk[: HEAD - len(self._head)]
            if len(self._head) == HEAD:
                self.limit = self._limits.of(self._head)
        if self.too_large:
            raise RequestTooLarge(f"the body is larger than {self.limit} bytes; send less")
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
