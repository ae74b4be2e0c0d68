"""Traces, metrics and logs: set up once by the process, then asked for by name."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping
from contextlib import nullcontext
from functools import partial
from types import TracebackType
from typing import Any

import structlog
from opentelemetry import context as otel_context
from opentelemetry import metrics, trace
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

EXPORT_INTERVAL_MILLIS = 10_000
SPAN_DELAY_MILLIS = 500
TRACEPARENT_LENGTH = 55
_TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")

_propagator = TraceContextTextMapPropagator()
_meter = metrics.get_meter("regie")


class Telemetry:
    """The process's exporters; `stop` flushes them."""

    def __init__(self, service: str, *, endpoint: str, sample_ratio: float, log_level: str) -> None:
        configure_logs(service, log_level)
        self._traces: TracerProvider | None = None
        self._metrics: MeterProvider | None = None
        if not endpoint:
            return
        resource = Resource.create({"service.name": service, "service.namespace": "regie"})
        self._traces = TracerProvider(resource=resource, sampler=ParentBased(TraceIdRatioBased(sample_ratio)))
        spans = OTLPSpanExporter(endpoint=endpoint, insecure=True, timeout=5)
        self._traces.add_span_processor(
            BatchSpanProcessor(spans, max_queue_size=16_384, schedule_delay_millis=SPAN_DELAY_MILLIS)
        )
        trace.set_tracer_provider(self._traces)
        reader = PeriodicExportingMetricReader(
            OTLPMetricExporter(endpoint=endpoint, insecure=True, timeout=5),
            export_interval_millis=EXPORT_INTERVAL_MILLIS,
        )
        self._metrics = MeterProvider(resource=resource, metric_readers=[reader])
        metrics.set_meter_provider(self._metrics)

    def stop(self) -> None:
        """Flushes the queues, within the exporters' own time limits."""
        if self._traces:
            self._traces.shutdown()
        if self._metrics:
            self._metrics.shutdown()


def configure_logs(service: str, level: str) -> None:
    """Writes one JSON object a line to stderr, with the current trace id where the record has none of its own.

    Libraries write the same way: their records from warnings on, Python's own warnings, and uncaught errors.
    """
    ours: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _add_trace_ids,
    ]
    rendered: list[structlog.types.Processor] = [
        structlog.processors.format_exc_info,
        structlog.processors.JSONRenderer(),
    ]
    structlog.configure(
        processors=[*ours, *rendered],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(service=service)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            # A library's threads do not have our context, so the service is named here once more.
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *ours, partial(_add_service, service)],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendered],
        )
    )
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.captureWarnings(capture=True)
    sys.excepthook = _log_uncaught


def _log_uncaught(kind: type[BaseException], error: BaseException, trace_back: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace_back)
        return
    structlog.get_logger().critical("process.failed", exc_info=(kind, error, trace_back))


def _add_service(
    service: str, _logger: object, _method: str, record: structlog.types.EventDict
) -> structlog.types.EventDict:
    record.setdefault("service", service)
    return record


def _add_trace_ids(_logger: object, _method: str, record: structlog.types.EventDict) -> structlog.types.EventDict:
    span = trace.get_current_span().get_span_context()
    if span.is_valid and "trace_id" not in record:
        record["trace_id"] = f"{span.trace_id:032x}"
        record["span_id"] = f"{span.span_id:016x}"
    return record


class _Tracer(trace.Tracer):
    """Opens a span only where it will be recorded.

    A child of an unsampled parent is not sampled either (`ParentBased`), so the parent itself is yielded: most spans
    of a busy system are unsampled, and the SDK would build every one of them in full.
    """

    def __init__(self) -> None:
        self._tracer = trace.get_tracer("regie")

    def start_span(
        self, name: str, context: otel_context.Context | None = None, *arguments: Any, **options: Any
    ) -> trace.Span:
        """See `trace.Tracer`."""
        return _unsampled(context) or self._tracer.start_span(name, context, *arguments, **options)

    def start_as_current_span(
        self, name: str, context: otel_context.Context | None = None, *arguments: Any, **options: Any
    ) -> Any:
        """See `trace.Tracer`."""
        parent = _unsampled(context)
        if parent is not None:
            if context is None:
                return nullcontext(parent)
            return trace.use_span(parent, record_exception=False, set_status_on_exception=False)
        return self._tracer.start_as_current_span(name, context, *arguments, **options)


def _unsampled(context: otel_context.Context | None) -> trace.Span | None:
    parent = trace.get_current_span(context)
    span = parent.get_span_context()
    if not span.is_valid or span.trace_flags.sampled:
        return None
    return parent if isinstance(parent, trace.NonRecordingSpan) else trace.NonRecordingSpan(span)


_tracer = _Tracer()


def tracer() -> trace.Tracer:
    """Returns the tracer; spans are dropped until a `Telemetry` exists."""
    return _tracer


def meter() -> metrics.Meter:
    """Returns the meter; figures are dropped until a `Telemetry` exists."""
    return _meter


def current_traceparent() -> str:
    """Returns the W3C traceparent of the current span, empty when there is none."""
    return traceparent_of(trace.get_current_span())


def traceparent_of(span: trace.Span) -> str:
    """Returns the W3C traceparent of a span that need not be current."""
    context = span.get_span_context()
    if not context.is_valid:
        return ""
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def is_unsampled(traceparent: str) -> bool:
    """True for a traceparent below which no span is recorded, so that it can be handed on as it is."""
    return len(traceparent) == TRACEPARENT_LENGTH and traceparent.endswith("-00")


def start_child_span(name: str, traceparent: str, **options: Any) -> trace.Span:
    """Starts a span below the one that a traceparent stands for; a new root for an empty or broken one.

    Returns the span of the traceparent itself where that is not sampled.
    """
    return _tracer.start_span(name, context_of(traceparent), **options)


def context_of(traceparent: str) -> otel_context.Context:
    """Returns the context that a traceparent stands for; a new root for an empty or broken one."""
    parent = _parent_of(traceparent)
    if parent is None:
        return _propagator.extract({"traceparent": traceparent}, context=otel_context.Context())
    return trace.set_span_in_context(parent, otel_context.Context())


def _parent_of(traceparent: str) -> trace.Span | None:
    """Returns the span that a traceparent of version 00 stands for, in a third of the propagator's time."""
    match = _TRACEPARENT.fullmatch(traceparent)
    if match is None:
        return None
    trace_id, span_id, flags = (int(part, 16) for part in match.groups())
    span = trace.SpanContext(trace_id, span_id, is_remote=True, trace_flags=trace.TraceFlags(flags))
    return trace.NonRecordingSpan(span) if span.is_valid else None


def link_to(traceparent: str) -> list[trace.Link]:
    """Returns a link across a wait, for `start_span(links=…)`; none for an empty or broken traceparent."""
    span = trace.get_current_span(context_of(traceparent)).get_span_context()
    return [trace.Link(span)] if span.is_valid else []


def trace_id_of(traceparent: str) -> str:
    """Returns the 32 hex digits of a traceparent's trace, empty when it has none."""
    parts = traceparent.split("-")
    return parts[1] if len(parts) == 4 else ""


def traceparent_from(headers: Mapping[str, str]) -> str:
    """Returns the traceparent among headers of any case."""
    found = headers.get("traceparent")  # as we write it ourselves
    if found is not None:
        return found
    return next((value for name, value in headers.items() if name.lower() == "traceparent"), "")
