"""Which methods a path takes: HEAD wherever there is GET, and an `Allow` that names them all."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable

from fastapi import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from regie_gateway.http.problems import WHAT_TO_DO, problem_response

STREAMS = frozenset({"/v1/events"})  # do not end by themselves, so that nobody can ask for their head alone


def allowed(routes: Iterable[BaseRoute], scope: Scope) -> list[str]:
    """Returns the methods that the path of a request takes; those of its own path before those of a pattern."""
    here = [route for route in routes if isinstance(route, Route) and route.matches(scope)[0] is not Match.NONE]
    exact = [route for route in here if route.path == scope["path"]]
    methods = {method for route in exact or here for method in route.methods or ()}
    if "GET" in methods and scope["path"] not in STREAMS:
        methods.add("HEAD")
    return sorted(methods)


def not_allowed(routes: Iterable[BaseRoute], request: Request) -> Response:
    """Returns the answer to a method that the path does not take."""
    answer = problem_response(405, "METHOD_NOT_ALLOWED", WHAT_TO_DO[405])
    answer.headers["Allow"] = ", ".join(allowed(routes, request.scope))
    return answer


class Methods:
    """ASGI middleware: answers HEAD as GET without a body, and keeps patterns from taking fixed paths."""

    def __init__(self, app: ASGIApp, *, routes: Iterable[BaseRoute]) -> None:
        self._app = app
        self._routes = tuple(routes)
        self._fixed: dict[str, set[str]] = {}
        for route in self._routes:
            if isinstance(route, Route) and "{" not in route.path:
                self._fixed.setdefault(route.path, set()).update(route.methods or ())

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] != "http":
            return self._app(scope, receive, send)
        if scope["method"] == "HEAD" and "HEAD" in allowed(self._routes, scope):
            scope = {**scope, "method": "GET"}
            send = _without_body(send)
        fixed = self._fixed.get(scope["path"])
        if fixed is not None and scope["method"] not in fixed:
            return not_allowed(self._routes, Request(scope))(scope, receive, send)
        return self._app(scope, receive, send)


def _without_body(send: Send) -> Send:
    async def send_head(message: Message) -> None:
        if message["type"] == "http.response.body":
            message = {**message, "body": b""}
        await send(message)

    return send_head
