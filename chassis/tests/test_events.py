from __future__ import annotations

import pytest
from regie.gateway.events.v1.gateway_events_pb2 import WorkspaceUpdated
from regie.publisher.events.v1.publisher_events_pb2 import PostPublished, RemoteSegment
from regie.scheduler.events.v1.scheduler_events_pb2 import PostDue
from regie_chassis.events.contracts import aggregate_of, all_events, options_of


def test_an_event_says_what_it_is_about_and_who_may_be_told() -> None:
    assert aggregate_of(PostPublished(delivery_id="dlv_1", post_id="post_1")) == "post_1"
    assert options_of(PostPublished).scope == "posts:read"
    assert options_of(WorkspaceUpdated).scope == ""


def test_a_part_of_an_event_is_none() -> None:
    with pytest.raises(TypeError, match="RemoteSegment has no option"):
        aggregate_of(RemoteSegment(remote_id="1"))
    assert {PostDue, PostPublished, WorkspaceUpdated} < set(all_events())
    assert RemoteSegment not in all_events()
