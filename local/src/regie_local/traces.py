"""A small OTLP/gRPC receiver that keeps the latest spans in memory and shows them over HTTP.

`GET /traces/{trace_id}` gives a trace's spans, `GET /traces?link={trace_id}` the traces that link to it. Metrics and
log records are taken and dropped.
"""

from __future__ import annotations

import argparse
import json
import signal
import threading
from collections import OrderedDict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import grpc
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2, logs_service_pb2_grpc
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

CAPACITY = 50_000  # spans, about 500 bytes each
STOP_GRACE = 1.0  # seconds
READ_TIMEOUT = 10.0  # seconds for a request
LOOPBACK = {"127.0.0.1", "localhost"}
MAX_MESSAGE = 64 * 1024 * 1024  # bytes


class TraceStore:
    """The latest spans by trace, as the bytes they came in; the oldest trace makes room for a new one."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._spans: OrderedDict[bytes, list[tuple[str, bytes]]] = OrderedDict()
        self._links: dict[bytes, set[bytes]] = {}
        self._count = 0
        self._guard = threading.Lock()

    def add(self, service: str, span: Span) -> None:
        """Keeps a span."""
        with self._guard:
            self._spans.setdefault(span.trace_id, []).append((service, span.SerializeToString()))
            for link in span.links:
                if link.trace_id != span.trace_id:
                    self._links.setdefault(link.trace_id, set()).add(span.trace_id)
            self._count += 1
            while self._count > self._capacity:
                oldest, dropped = self._spans.popitem(last=False)
                self._count -= len(dropped)
                self._links.pop(oldest, None)

    def spans(self, trace_id: str) -> list[dict[str, Any]]:
        """Returns the spans of a trace as JSON, the earliest first; none for an unknown trace."""
        with self._guard:
            found = list(self._spans.get(bytes.fromhex(trace_id), ()))
        return sorted(
            (_shown(service, Span.FromString(data)) for service, data in found), key=lambda span: span["start"]
        )

    def linking_to(self, trace_id: str) -> list[str]:
        """Returns the ids of the traces that link to one."""
        with self._guard:
            linking = self._links.get(bytes.fromhex(trace_id), set())
            return [known.hex() for known in linking if known in self._spans]


def _shown(service: str, span: Span) -> dict[str, Any]:
    return {
        "name": span.name,
        "service": service,
        "kind": Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_").lower(),
        "trace_id": span.trace_id.hex(),
        "span_id": span.span_id.hex(),
        "parent_id": span.parent_span_id.hex(),
        "start": span.start_time_unix_nano / 1e9,
        "end": span.end_time_unix_nano / 1e9,
        "status": {0: "unset", 1: "ok", 2: "error"}[span.status.code],
        "status_message": span.status.message,
        "links": [{"trace_id": link.trace_id.hex(), "span_id": link.span_id.hex()} for link in span.links],
        "attributes": dict(_attributes(span.attributes)),
        "events": [{"name": event.name, "attributes": dict(_attributes(event.attributes))} for event in span.events],
    }


def _attributes(pairs: Any) -> Iterator[tuple[str, Any]]:
    pair: KeyValue
    for pair in pairs:
        yield pair.key, _value(pair.value)


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(part) for part in value.array_value.values]
    if kind == "kvlist_value":
        return dict(_attributes(value.kvlist_value.values))
    if kind == "bytes_value":
        return value.bytes_value.hex()
    return getattr(value, kind) if kind else None


class _Traces(trace_service_pb2_grpc.TraceServiceServicer):
    def __init__(self, store: TraceStore) -> None:
        self._store = store

    def Export(self, request: Any, context: Any) -> Any:  # noqa: N802, ARG002  # the protocol's name and form
        for resource in request.resource_spans:
            service = str(dict(_attributes(resource.resource.attributes)).get("service.name", ""))
            for scope in resource.scope_spans:
                for span in scope.spans:
                    self._store.add(service, span)
        return trace_service_pb2.ExportTraceServiceResponse()


class _Metrics(metrics_service_pb2_grpc.MetricsServiceServicer):
    def Export(self, request: Any, context: Any) -> Any:  # noqa: N802, ARG002  # the protocol's name and form
        return metrics_service_pb2.ExportMetricsServiceResponse()


class _Logs(logs_service_pb2_grpc.LogsServiceServicer):
    def Export(self, request: Any, context: Any) -> Any:  # noqa: N802, ARG002  # the protocol's name and form
        return logs_service_pb2.ExportLogsServiceResponse()


class TraceServer:
    """The receiver and its HTTP side on the loopback; port 0 takes a free one."""

    def __init__(self, store: TraceStore, *, port: int = 0, http_port: int = 0) -> None:
        options = [("grpc.max_receive_message_length", MAX_MESSAGE), ("grpc.so_reuseport", 0)]
        self._rpc = grpc.server(ThreadPoolExecutor(max_workers=4), options=options)
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(_Traces(store), self._rpc)
        metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server(_Metrics(), self._rpc)
        logs_service_pb2_grpc.add_LogsServiceServicer_to_server(_Logs(), self._rpc)
        self.port = self._rpc.add_insecure_port(f"127.0.0.1:{port}")
        self._http = ThreadingHTTPServer(("127.0.0.1", http_port), _pages(store))
        self._http.daemon_threads = True
        self.http_port = int(self._http.server_address[1])
        self._thread = threading.Thread(target=self._http.serve_forever, name="http", daemon=True)

    @property
    def endpoint(self) -> str:
        """host:port for exporters."""
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Takes spans from now on."""
        self._rpc.start()
        self._thread.start()

    def stop(self) -> None:
        """Lets calls at work end, then closes both ports."""
        self._rpc.stop(STOP_GRACE).wait()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


def _pages(store: TraceStore) -> type[BaseHTTPRequestHandler]:
    class Pages(BaseHTTPRequestHandler):
        timeout = READ_TIMEOUT

        def do_GET(self) -> None:  # the standard library's name
            # A page elsewhere may lead a browser here by a name of its own.
            ours = urlsplit(f"//{self.headers.get('Host', '')}").hostname in LOOPBACK
            status, body = _answer(store, self.path) if ours else (421, {"error": "call it by its own address"})
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the standard library's name
            """Logs nothing: each look at a trace would be a line."""

    return Pages


def _answer(store: TraceStore, path: str) -> tuple[int, dict[str, Any]]:
    url = urlsplit(path)
    if url.path == "/healthz":
        return 200, {"status": "ok"}
    try:
        if url.path == "/traces":
            linked = parse_qs(url.query).get("link", [""])[0]
            return 200, {"traces": store.linking_to(linked)}
        if url.path.startswith("/traces/"):
            trace_id = url.path.removeprefix("/traces/")
            spans = store.spans(trace_id)
            return (200 if spans else 404), {"trace_id": trace_id, "spans": spans}
    except ValueError:
        return 400, {"error": "a trace id is 32 hex digits"}
    return 404, {"error": "there are /traces/{trace_id} and /traces?link={trace_id}"}


def main() -> None:
    """Receives until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=4317, help="OTLP/gRPC")
    parser.add_argument("--http-port", type=int, default=4316)
    parser.add_argument("--capacity", type=int, default=CAPACITY, help="spans to keep")
    asked = parser.parse_args()
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    server = TraceServer(TraceStore(asked.capacity), port=asked.port, http_port=asked.http_port)
    server.start()
    stopping.wait()
    server.stop()


if __name__ == "__main__":
    main()
