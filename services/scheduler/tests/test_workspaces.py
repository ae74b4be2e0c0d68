"""Decisions of a workspace."""

from __future__ import annotations

from datetime import timedelta

import pytest
from google.protobuf.duration_pb2 import Duration
from regie.gateway.events.v1.gateway_events_pb2 import WorkspaceUpdated
from regie_scheduler.policies.workspaces import MAX_MISSED_AFTER, MISSED_AFTER, missed_after


@pytest.mark.parametrize(
    ("decided", "kept"),
    [
        (None, MISSED_AFTER),
        (Duration(), MISSED_AFTER),
        (Duration(seconds=-5), MISSED_AFTER),
        (Duration(seconds=2, nanos=500_000_000), timedelta(seconds=2.5)),
        (Duration(seconds=315_576_000_000), MAX_MISSED_AFTER),
    ],
)
def test_a_span_that_cannot_be_kept_to_is_replaced(decided: Duration | None, kept: timedelta) -> None:
    assert missed_after(WorkspaceUpdated(missed_after=decided)) == kept
