"""Two traces and a link between them: one until a post is scheduled, one from the moment it is due."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from regie_chassis.boundary.telemetry import tracer
from regie_chassis.data.database import Database
from regie_local.testing.clock import FakeClock
from regie_scheduler.posts.due import dispatch_due
from regie_scheduler.testing import Planner
from sqlalchemy import text


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    """Collects spans; a process has one provider, so that this one joins the existing provider."""
    provider = trace.get_tracer_provider()
    if not isinstance(provider, TracerProvider):
        provider = TracerProvider()
        trace.set_tracer_provider(provider)
    exporter = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield exporter
    exporter.shutdown()


async def test_a_due_post_starts_a_trace_that_is_linked_to_that_of_its_scheduling(
    database: Database, clock: FakeClock, planner: Planner, spans: InMemorySpanExporter
) -> None:
    with tracer().start_as_current_span("api call") as scheduling:
        await planner.create(leaves=timedelta(seconds=1))
    await dispatch_due(database, now=clock.now() + timedelta(seconds=1))
    (due,) = [span for span in spans.get_finished_spans() if span.name == "due PostDue"]
    assert due.parent is None
    assert [link.context.trace_id for link in due.links] == [scheduling.get_span_context().trace_id]
    assert due.context.trace_id != scheduling.get_span_context().trace_id
    async with database.reading() as session:
        sent = await session.execute(text("SELECT traceparent FROM outbox WHERE type LIKE '%PostDue'"))
        noted = await session.execute(text("SELECT trace_id FROM post_change ORDER BY id"))
    assert sent.scalar_one().split("-")[1:3] == [f"{due.context.trace_id:032x}", f"{due.context.span_id:016x}"]
    assert list(noted.scalars()) == [f"{scheduling.get_span_context().trace_id:032x}", f"{due.context.trace_id:032x}"]
