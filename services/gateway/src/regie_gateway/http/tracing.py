"""One server span for each request, and its trace id in the answer. Lean, because it stands before everything."""

from __future__ import annotations

from opentelemetry import trace
from opentelemetry.trace import SpanKind, StatusCode
from regie_chassis.boundary import telemetry
from regie_chassis.boundary.telemetry import context_of
from starlette.types import ASGIApp, Message, Receive, Scope, Send

UNTRACED = frozenset({"/healthz", "/readyz", "/openapi.json"})
STREAMS = frozenset({"/v1/events"})  # last for hours: their span ends with the head of the answer


class Traced:
    """ASGI middleware: continues the caller's trace or starts one; named `GET /v1/posts/{post_id}`."""

    def __init__(self, app: ASGIApp, tracer: trace.Tracer | None = None) -> None:
        self._app = app
        self._tracer = tracer or telemetry.tracer()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in UNTRACED:
            await self._app(scope, receive, send)
            return
        parent = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"traceparent"), "")
        method, endless = scope["method"], scope["path"] in STREAMS
        with self._tracer.start_as_current_span(
            method,
            context=context_of(parent),
            kind=SpanKind.SERVER,
            attributes={"http.request.method": method},
            end_on_exit=not endless,
        ) as span:
            context = span.get_span_context()
            if not context.is_valid:
                await self._app(scope, receive, send)
                return
            trace_id = f"{context.trace_id:032x}".encode()

            async def named(message: Message) -> None:
                if message["type"] == "http.response.start":
                    message["headers"] = [*message.get("headers", ()), (b"trace-id", trace_id)]
                    _describe(span, scope, message["status"])
                    if endless:
                        span.end()
                await send(message)

            await self._app(scope, receive, named)


def _describe(span: trace.Span, scope: Scope, status: int) -> None:
    if not span.is_recording():
        return
    path = getattr(scope.get("route"), "path", None)
    if path:
        span.update_name(f"{scope['method']} {path}")
        span.set_attribute("http.route", path)
    span.set_attribute("http.response.status_code", status)
    if status >= 500:
        span.set_status(StatusCode.ERROR)
