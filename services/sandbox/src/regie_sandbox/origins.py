"""The accepted origins of requests: programs that name the sandbox by its own address, and its own pages.

A web page elsewhere can have a browser send requests to this machine, by a name of its own that leads here, or
without asking first. Neither may read the feed, post, or set faults.
"""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit

import orjson
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

LOOPBACK = {"127.0.0.1", "localhost", "::1"}


class OwnOrigins:
    """ASGI middleware: refuses names that are not ours, and requests that pages of other origins make."""

    def __init__(self, app: ASGIApp, *, allowed_hosts: Iterable[str] = ()) -> None:
        self._app = app
        self._allowed = {one.lower() for one in allowed_hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            hosts = [value.decode("latin-1").lower() for name, value in scope["headers"] if name == b"host"]
            if len(hosts) != 1 or not self._is_ours(hosts[0]):
                await _refusal(421, "host_unknown", "Call the sandbox by its own address.")(scope, receive, send)
                return
            origins = [value.decode("latin-1").lower() for name, value in scope["headers"] if name == b"origin"]
            if any(origin.partition("://")[2] != hosts[0] for origin in origins):
                await _refusal(403, "origin_foreign", "Pages of other origins may not.")(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _is_ours(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname
        except ValueError:
            return False
        return host in self._allowed or name in LOOPBACK


def _refusal(status: int, error: str, message: str) -> Response:
    return Response(orjson.dumps({"error": error, "message": message}), status, media_type="application/json")
