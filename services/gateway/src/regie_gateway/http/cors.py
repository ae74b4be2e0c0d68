"""Cross-origin requests of browsers, where a setting allows their origins (the CORS protocol of the Fetch standard).

Stands before everything else, so that a preflight takes no key and errors of all kinds can be read by the page. Keys
travel in `Authorization`, never in cookies, so credentials in the sense of the protocol are not allowed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Collection, Iterable

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from regie_gateway.http.document import HEADERS
from regie_gateway.http.problems import problem_response

ANY = "*"
MAX_AGE = 7200  # seconds; no browser remembers a preflight for longer
REQUEST_HEADERS = (
    "Authorization",
    "Content-Type",
    "Idempotency-Key",
    "If-Match",
    "Last-Event-ID",
    "traceparent",
    "tracestate",
)
RESPONSE_HEADERS = (*HEADERS, "Allow")
PREFLIGHT_VARY = "Origin, Access-Control-Request-Method, Access-Control-Request-Headers"


class CrossOrigin:
    """ASGI middleware: answers preflights, and lets pages of the allowed origins read responses."""

    def __init__(self, app: ASGIApp, *, origins: Collection[str], methods: Iterable[str]) -> None:
        self._app = app
        self._origins = frozenset(origins)
        self._preflight = {
            "Access-Control-Allow-Methods": ", ".join(sorted(methods)),
            "Access-Control-Allow-Headers": ", ".join(REQUEST_HEADERS),
            "Access-Control-Max-Age": str(MAX_AGE),
        }
        self._exposed = ", ".join(RESPONSE_HEADERS)

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] != "http":
            return self._app(scope, receive, send)
        headers = Headers(scope=scope)
        allowed = self._allowed(headers.get("origin"))
        if scope["method"] == "OPTIONS" and "origin" in headers and "access-control-request-method" in headers:
            return self._answer_preflight(allowed)(scope, receive, send)
        return self._app(scope, receive, self._readable(allowed, send))

    def _allowed(self, origin: str | None) -> str | None:
        """Returns the value of Access-Control-Allow-Origin; None for an origin that is not allowed."""
        if ANY in self._origins:
            return ANY
        return origin if origin in self._origins else None

    def _answer_preflight(self, allowed: str | None) -> Response:
        if allowed is None:
            response: Response = problem_response(
                403, "ORIGIN_NOT_ALLOWED", "pages of this origin may not call; the operator adds it to the setting"
            )
        else:
            response = Response(status_code=204, headers={"Access-Control-Allow-Origin": allowed, **self._preflight})
        response.headers["Vary"] = PREFLIGHT_VARY
        return response

    def _readable(self, allowed: str | None, send: Send) -> Send:
        async def send_readable(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.add_vary_header("Origin")
                if allowed is not None:
                    headers["Access-Control-Allow-Origin"] = allowed
                    headers["Access-Control-Expose-Headers"] = self._exposed
            await send(message)

        return send_readable
