from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from regie_chassis.boundary.telemetry import (
    context_of,
    is_unsampled,
    link_to,
    start_child_span,
    trace_id_of,
    traceparent_from,
    traceparent_of,
)

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-01"
BROKEN = ["", "x", "00", f"00-{TRACE}", "00-zz-zz-01", f"00-{'0' * 32}-b7ad6b7169203331-01", "a-b-c-d"]

LOGGING = """
import logging
import threading
import warnings
import structlog
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry import trace
from pydantic import SecretStr
from regie_chassis.process.settings import ServiceSettings
from regie_chassis.boundary.telemetry import configure_logs, tracer, current_traceparent

log = structlog.get_logger()
configure_logs("scheduler", "info")
trace.set_tracer_provider(TracerProvider())
settings = ServiceSettings(database_url="postgresql+asyncpg://u:s3cret-words@h/d", nats_password="s3cret-words")
log.debug("too quiet to hear")
log.info("outside", settings=settings, url=settings.database_url)
with tracer().start_as_current_span("work"):
    log.warning("inside", traceparent=current_traceparent())
    log.info("told of another", trace_id="of another")
    try:
        raise ValueError("out of luck")
    except ValueError as error:
        log.error("failed", exc_info=error)
    logging.getLogger("uvicorn.error").error("a library's %s", "words", exc_info=ValueError("theirs"))
logging.getLogger("a.library").info("too quiet")
thread = threading.Thread(target=lambda: logging.getLogger("exporter").warning("from a thread"))
thread.start()
thread.join()
warnings.warn("an old way")
raise RuntimeError("nobody caught me")
"""

Records = dict[str, dict[str, Any]]
"""Log records by event."""


@pytest.fixture(scope="module")
def records() -> Records:
    """The log records of a process of its own, by event; the logs of this one stay as pytest sets them."""
    done = subprocess.run([sys.executable, "-c", LOGGING], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert done.stdout == ""
    assert "s3cret-words" not in done.stderr
    return {record["event"].partition("\n")[0]: record for record in map(json.loads, done.stderr.splitlines())}


def test_a_log_record_is_one_json_object_with_service_level_and_time(records: Records) -> None:
    record = records["outside"]
    assert (record["service"], record["level"]) == ("scheduler", "info")
    assert record["timestamp"].endswith("Z")
    assert "trace_id" not in record


def test_secrets_in_settings_are_not_logged(records: Records) -> None:
    assert "**********" in str(records["outside"]["url"])
    assert "**********" in str(records["outside"]["settings"])


def test_a_record_keeps_the_trace_id_that_it_was_given(records: Records) -> None:
    record = records["told of another"]
    assert record["trace_id"] == "of another"
    assert "span_id" not in record


def test_a_record_inside_a_span_carries_its_ids(records: Records) -> None:
    record = records["inside"]
    _, trace_id, span_id, _ = record["traceparent"].split("-")
    assert (record["trace_id"], record["span_id"]) == (trace_id, span_id)


def test_an_error_is_logged_with_its_traceback(records: Records) -> None:
    assert "ValueError: out of luck" in records["failed"]["exception"]
    assert records["failed"]["trace_id"]


def test_records_below_the_level_are_dropped(records: Records) -> None:
    assert not {"too quiet to hear", "too quiet"} & set(records)


def test_a_traceparent_is_read_as_context_link_and_id() -> None:
    span = trace.get_current_span(context_of(PARENT)).get_span_context()
    assert f"{span.trace_id:032x}" == TRACE
    (link,) = link_to(PARENT)
    assert link.context.span_id == 0xB7AD6B7169203331
    assert trace_id_of(PARENT) == TRACE


@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_traceparent_is_a_new_root_and_no_link(broken: str) -> None:
    assert not trace.get_current_span(context_of(broken)).get_span_context().is_valid
    assert link_to(broken) == []


@given(st.integers(0, 2**128 - 1), st.integers(0, 2**64 - 1), st.integers(0, 255))
def test_a_traceparent_is_read_as_the_propagator_reads_it(trace_id: int, span_id: int, flags: int) -> None:
    traceparent = f"00-{trace_id:032x}-{span_id:016x}-{flags:02x}"
    extracted = TraceContextTextMapPropagator().extract({"traceparent": traceparent}, context=Context())
    assert read_span(context_of(traceparent)) == read_span(extracted)


def read_span(context: Context) -> tuple[bool, int, int, int, bool]:
    span = trace.get_current_span(context).get_span_context()
    return span.is_valid, span.trace_id, span.span_id, span.trace_flags, span.is_remote


@pytest.mark.parametrize(
    ("traceparent", "unsampled"),
    [(PARENT, False), (PARENT[:-2] + "00", True), ("", False), ("x-00", False)],
)
def test_below_an_unsampled_traceparent_nothing_is_recorded(traceparent: str, unsampled: bool) -> None:
    assert is_unsampled(traceparent) is unsampled
    if unsampled:
        assert traceparent_of(start_child_span("child", traceparent)) == traceparent


def test_the_traceparent_is_found_among_headers_of_any_case() -> None:
    assert traceparent_from({"ce-id": "1", "TraceParent": PARENT}) == PARENT
    assert traceparent_from({}) == ""


def test_libraries_threads_warnings_and_failures_log_as_everything_else(records: Records) -> None:
    theirs = records["a library's words"]
    assert (theirs["level"], theirs["logger"], theirs["service"]) == ("error", "uvicorn.error", "scheduler")
    assert "ValueError: theirs" in theirs["exception"]
    assert len(theirs["trace_id"]) == 32
    assert records["from a thread"]["service"] == "scheduler"
    assert any("an old way" in event for event in records)
    failed = records["process.failed"]
    assert failed["level"] == "critical"
    assert "RuntimeError: nobody caught me" in failed["exception"]
    assert "too quiet" not in records
