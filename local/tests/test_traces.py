from __future__ import annotations

import json
from collections.abc import Iterator
from http.client import HTTPConnection
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.trace import Link, SpanKind, Tracer
from regie_local.trace_tree import tree
from regie_local.traces import TraceServer, TraceStore


@pytest.fixture
def server() -> Iterator[TraceServer]:
    server = TraceServer(TraceStore())
    server.start()
    yield server
    server.stop()


@pytest.fixture
def tracer(server: TraceServer) -> Iterator[Tracer]:
    provider = TracerProvider(resource=Resource.create({"service.name": "scheduler"}))
    provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(endpoint=server.endpoint, insecure=True)))
    yield provider.get_tracer("test")
    provider.shutdown()


def get(server: TraceServer, path: str, **headers: str) -> tuple[int, dict[str, Any]]:
    connection = HTTPConnection("127.0.0.1", server.http_port, timeout=5)
    try:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def test_what_an_exporter_sends_is_shown_with_parents_links_and_attributes(server: TraceServer, tracer: Tracer) -> None:
    with tracer.start_as_current_span("request", kind=SpanKind.SERVER) as request:
        tracer.start_span("transaction", attributes={"rows": 2, "names": ["a", "b"]}).end()
    due = tracer.start_span("due", links=[Link(request.get_span_context())])
    due.end()
    trace_id = f"{request.get_span_context().trace_id:032x}"
    status, shown = get(server, f"/traces/{trace_id}")
    assert status == 200
    root, inner = shown["spans"]
    assert (root["name"], root["kind"], root["service"], root["parent_id"]) == ("request", "server", "scheduler", "")
    assert inner["parent_id"] == root["span_id"]
    assert inner["attributes"] == {"rows": 2, "names": ["a", "b"]}
    linked = f"{due.get_span_context().trace_id:032x}"
    assert get(server, f"/traces?link={trace_id}") == (200, {"traces": [linked]})
    assert get(server, f"/traces/{linked}")[1]["spans"][0]["links"] == [
        {"trace_id": trace_id, "span_id": root["span_id"]},
    ]


def test_an_unknown_trace_is_not_found_and_a_broken_id_is_refused(server: TraceServer) -> None:
    assert get(server, f"/traces/{'0' * 32}")[0] == 404
    assert get(server, "/traces/xyz")[0] == 400


def test_the_oldest_trace_makes_room() -> None:
    store = TraceStore(capacity=3)
    for number in range(5):
        store.add("scheduler", Span(trace_id=bytes([number]) * 16, span_id=bytes([number]) * 8, name=f"span {number}"))
    assert not store.spans("01" * 16)
    assert [span["name"] for span in store.spans("02" * 16)] == ["span 2"]


def span(name: str, span_id: str, parent_id: str = "", start: float = 0.0) -> dict[str, Any]:
    shown = {"name": name, "service": "s", "span_id": span_id, "parent_id": parent_id, "start": start, "end": start}
    return {**shown, "links": [], "status": "unset", "status_message": ""}


def test_a_tree_shows_children_below_their_parents_and_orphans_as_roots() -> None:
    lines = tree(
        [span("late", "c", "a", 2.0), span("root", "a"), span("early", "b", "a", 1.0), span("lost", "d", "x", 3.0)]
    )
    assert [line.split("  ")[0] for line in lines] == ["root", "├─ early", "└─ late", "lost"]


def test_a_tree_counts_what_is_alike() -> None:
    lines = tree([span("root", "a"), *(span("same", f"b{number}", "a") for number in range(10))])
    assert lines[-1] == "└─ … 7 more same"
    assert len(lines) == 5


def test_a_name_that_only_leads_here_is_refused(server: TraceServer) -> None:
    assert get(server, "/healthz", Host="attacker.example")[0] == 421
    assert get(server, "/healthz", Host=f"localhost:{server.http_port}")[0] == 200
