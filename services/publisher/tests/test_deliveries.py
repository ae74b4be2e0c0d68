"""The delivery protocol: one attempt, its outcomes, and what follows them."""

from __future__ import annotations

from regie.publisher.events.v1.publisher_events_pb2 import PostPublished
from regie_publisher.testing.desk import Desk


async def test_a_due_post_goes_out_once_and_says_so(desk: Desk) -> None:
    channel = await desk.channel()
    await desk.receive(desk.due(channel))
    await desk.work()
    assert [post.text for post in desk.connector.posts] == ["hello"]
    assert await desk.changes() == [
        ("pending", "PostDue"),
        ("claimed", "worker"),
        ("publishing", "worker"),
        ("published", "worker"),
    ]
    [event] = await desk.said(PostPublished)
    assert (event.remote_id, event.attempt, event.network) == ("1", 1, "fake")
