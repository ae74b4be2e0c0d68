"""Types of fixtures for the tests of metrics."""

from __future__ import annotations

from collections.abc import Callable

from regie.publisher.events.v1.publisher_events_pb2 import PostMetricsObserved

MakeReading = Callable[..., PostMetricsObserved]
"""Makes an event from the fields that a test names; every other field is new."""
