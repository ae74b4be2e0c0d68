"""Counters and logs of the scheduler, one function a business fact."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from uuid import UUID

import structlog
from opentelemetry.context import Context
from opentelemetry.trace import Span
from regie_chassis.boundary.telemetry import link_to, meter, tracer

log = structlog.get_logger()
_due = meter().create_counter("regie.posts.due", unit="{post}", description="Posts handed to the publisher")
_lateness = meter().create_histogram("regie.posts.lateness", unit="s", description="From a post's time to its claim")
_missed = meter().create_counter("regie.posts.missed", unit="{post}", description="Posts too late to be sent")
_finished = meter().create_counter("regie.posts.finished", unit="{post}", description="Posts at their end, by state")


def start_due_span(post_id: str, traceparent: str) -> Span:
    """Starts the root of a post's second trace, linked across the wait to the one in which it was scheduled."""
    return tracer().start_span(
        "due PostDue", context=Context(), links=link_to(traceparent), attributes={"regie.post_id": post_id}
    )


def posts_due(publish_times: Iterable[datetime], *, now: datetime) -> None:
    """Counts posts handed to the publisher and how late they were."""
    count = 0
    for publish_time in publish_times:
        count += 1
        _lateness.record((now - publish_time).total_seconds())
    _due.add(count)


def post_missed(post_id: UUID, publish_time: datetime, *, now: datetime) -> None:
    """Counts and logs a post that was too late."""
    _missed.add(1)
    log.warning("post.missed", post_id=str(post_id), late_seconds=(now - publish_time).total_seconds())


def post_finished(state: str) -> None:
    """Counts a post that has reached its end."""
    _finished.add(1, {"state": state})


def event_ignored(post_id: UUID, channel_id: UUID, reason: str) -> None:
    """Logs a publisher's event that changes nothing here."""
    log.info("delivery_event.ignored", post_id=str(post_id), channel_id=str(channel_id), reason=reason)
