"""One server span for each request, named by its route, and its trace id in the answer."""

from __future__ import annotations

import httpx2
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind
from regie.ids.v1.prefixes import POST
from regie_chassis.boundary.ids import new_id, show_id
from regie_gateway.http.tracing import Traced
from regie_gateway.testing.harness import GatewayHarness

PARENT = "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01"


async def test_a_request_is_one_span_named_by_its_route(world: GatewayHarness) -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    app = Traced(world.gateway.application, tracer=provider.get_tracer("test"))
    transport = httpx2.ASGITransport(app=app)
    headers = {"Authorization": f"Bearer {world.token}", "traceparent": PARENT}
    path = f"/v1/posts/{show_id(POST, new_id())}"
    async with httpx2.AsyncClient(transport=transport, base_url="http://regie", headers=headers) as client:
        answer = await client.get(path)
        assert (await client.get("/healthz")).status_code == 200
        refused = await client.get("/v1/events?types=x")
    assert answer.status_code == 404
    # Twice, as the application has a middleware of its own whose tracer records nothing here.
    assert set(answer.headers.get_list("trace-id")) == {"0123456789abcdef0123456789abcdef"}
    assert answer.json()["trace_id"] == "0123456789abcdef0123456789abcdef"
    # Also where the answer would have been a stream.
    assert set(refused.headers.get_list("trace-id")) == {refused.json()["trace_id"]} == {answer.json()["trace_id"]}
    span, refusal = exporter.get_finished_spans()
    assert refusal.name == "GET /v1/events"
    assert (span.name, span.kind) == ("GET /v1/posts/{post_id}", SpanKind.SERVER)
    assert span.parent is not None
    assert f"{span.parent.span_id:016x}" == "0123456789abcdef"
    assert dict(span.attributes or {}) == {
        "http.request.method": "GET",
        "http.route": "/v1/posts/{post_id}",
        "http.response.status_code": 404,
    }
