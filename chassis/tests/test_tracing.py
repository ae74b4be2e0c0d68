"""A trace across gRPC, a transaction and the broker, with the SDK's own exporter as the witness."""

# ruff: noqa: ARG002  # servicers take what gRPC gives them

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from regie.metrics.v1.post_metrics_service_pb2 import (
    GetPostMetricsRequest,
    GetPostMetricsResponse,
    GetPostSeriesRequest,
    GetPostSeriesResponse,
)
from regie.metrics.v1.post_metrics_service_pb2_grpc import (
    PostMetricsServiceServicer,
    PostMetricsServiceStub,
    add_PostMetricsServiceServicer_to_server,
)
from regie.scheduler.events.v1.scheduler_events_pb2 import PostCreated
from regie_chassis.boundary.identity import Caller, Signer, Verifier, new_key
from regie_chassis.boundary.ids import new_id
from regie_chassis.boundary.rpc import Context, RpcServer, call, open_channel
from regie_chassis.boundary.telemetry import context_of, current_traceparent, trace_id_of, tracer
from regie_chassis.data.database import Database
from regie_chassis.events import outbox
from regie_chassis.events.consumer import Consumer
from regie_chassis.events.messaging import Event, stream_spec
from regie_chassis.events.relay import Relay
from regie_chassis.process.clock import SystemClock
from regie_local.testing.clock import START, FakeClock
from regie_local.testing.memory_broker import MemoryBroker
from regie_local.testing.waiting import settle
from sqlalchemy.ext.asyncio import AsyncSession


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    """Every span of the test; the process has one provider."""
    provider = trace.get_tracer_provider()
    if not isinstance(provider, TracerProvider):
        provider = TracerProvider()
        trace.set_tracer_provider(provider)
    exporter = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield exporter
    exporter.shutdown()  # the processor stays and drops what comes


class Metrics(PostMetricsServiceServicer):
    """Records the trace of each call."""

    def __init__(self) -> None:
        self.traceparent = ""

    async def GetPostMetrics(self, request: GetPostMetricsRequest, context: Context) -> GetPostMetricsResponse:
        self.traceparent = current_traceparent()
        return GetPostMetricsResponse()

    async def GetPostSeries(self, request: GetPostSeriesRequest, context: Context) -> GetPostSeriesResponse:
        raise NotImplementedError


def named(spans: InMemorySpanExporter, ending: str) -> ReadableSpan:
    found = [span for span in spans.get_finished_spans() if span.name.endswith(ending)]
    assert len(found) == 1, [span.name for span in spans.get_finished_spans()]
    return found[0]


def id_of(span: trace.Span | ReadableSpan) -> int:
    context = span.get_span_context()
    assert context is not None
    return int(context.span_id)


async def test_the_servers_span_is_the_child_of_the_clients(spans: InMemorySpanExporter, clock: FakeClock) -> None:
    key, metrics = new_key(), Metrics()
    server = RpcServer(
        host="127.0.0.1",
        port=0,
        prefix="DEMO_RPC",
        verifier=Verifier(key),
        clock=clock,
        register=[lambda server: add_PostMetricsServiceServicer_to_server(metrics, server)],
    )
    await server.start()
    identity = Signer(key).sign(Caller(new_id(), "key_1"), audience="metrics", now=START)
    with tracer().start_as_current_span("request") as request:
        async with open_channel(server.target) as channel:
            await call(PostMetricsServiceStub(channel).GetPostMetrics, GetPostMetricsRequest(), identity=identity)
    await server.stop()
    client, served = sorted(
        (span for span in spans.get_finished_spans() if "GetPostMetrics" in span.name), key=lambda span: span.kind.name
    )
    assert (client.kind.name, served.kind.name) == ("CLIENT", "SERVER")
    assert client.parent is not None
    assert served.parent is not None
    assert client.parent.span_id == id_of(request)
    assert served.parent.span_id == id_of(client)
    _, trace_id, span_id, _ = metrics.traceparent.split("-")
    assert int(trace_id, 16) == request.get_span_context().trace_id
    assert int(span_id, 16) == id_of(served)


async def test_an_event_continues_the_trace_of_its_cause_up_to_its_handler(
    spans: InMemorySpanExporter, database: Database
) -> None:
    broker, seen, stopping = MemoryBroker(), list[str](), asyncio.Event()

    async def on_post_created(session: AsyncSession, events: Sequence[Event[PostCreated]]) -> None:
        seen.extend([*(event.traceparent for event in events), current_traceparent()])

    consumer = Consumer(
        "reader", "scheduler", {PostCreated: on_post_created}, database=database, broker=broker, clock=SystemClock()
    )
    relay = Relay(database, broker, stream_spec("scheduler"), SystemClock())
    with tracer().start_as_current_span("request") as request:
        async with database.transaction() as session:
            outbox.stage(session, PostCreated(), workspace_id=new_id(), time=START)
    await broker.ensure_stream(stream_spec("scheduler"))
    loops = [asyncio.create_task(relay.run(stopping)), asyncio.create_task(consumer.run(stopping))]
    await settle([database], [consumer], broker)
    stopping.set()
    await asyncio.gather(*loops)
    published, processed = named(spans, "publish PostCreated"), named(spans, "process PostCreated")
    trace_id = request.get_span_context().trace_id
    assert [span.context.trace_id for span in (published, processed) if span.context] == [trace_id, trace_id]
    assert processed.parent is not None
    assert processed.parent.span_id == id_of(published)
    handler_trace, handler_span = seen[0].split("-")[1:3]
    assert (handler_trace, handler_span) == (f"{trace_id:032x}", f"{id_of(processed):016x}")
    assert seen[1].split("-")[1] == f"{trace_id:032x}"


async def test_a_transaction_has_a_span_inside_a_trace_and_a_polling_loop_starts_none(
    spans: InMemorySpanExporter, database: Database
) -> None:
    async with database.transaction():
        pass
    assert spans.get_finished_spans() == ()
    with tracer().start_as_current_span("request"):
        async with database.transaction():
            pass
    assert [span.name for span in spans.get_finished_spans()] == ["transaction", "request"]


@pytest.mark.parametrize(("flags", "recorded"), [("00", 0), ("01", 2)])
async def test_a_span_is_made_only_below_a_parent_that_is_sampled(
    spans: InMemorySpanExporter, flags: str, recorded: int
) -> None:
    traceparent = f"00-{'a' * 32}-{'b' * 16}-{flags}"
    tracer().start_span("child", context=context_of(traceparent)).end()
    with tracer().start_as_current_span("current child", context=context_of(traceparent)):
        # Without a span of its own, the trace goes on all the same.
        assert trace_id_of(current_traceparent()) == "a" * 32
        assert current_traceparent().endswith(flags)
    assert len(spans.get_finished_spans()) == recorded
