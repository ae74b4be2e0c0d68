"""A partial outcome names its parts; and messages are attributed to the network or to us."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from regie.ids.v1.prefixes import POST
from regie.publisher.events.v1.publisher_events_pb2 import (
    FAILURE_KIND_CONTENT_REJECTED,
    DeliveryFailed,
    DeliveryUnknown,
    PostPublished,
)
from regie.scheduler.events.v1.scheduler_events_pb2 import PostDue
from regie_chassis.boundary.ids import parse_id
from regie_chassis.events.messaging import Event
from regie_networks.draft import Remote
from regie_networks.errors import FailureKind, Unacceptable
from regie_publisher.deliveries.delivery import State
from regie_publisher.deliveries.queries import Delivery, list_deliveries, segments_of
from regie_publisher.testing.harness import PublisherHarness
from regie_publisher.testing.network import Play


async def test_a_thread_that_fails_in_the_middle_says_which_parts_are_out(harness: PublisherHarness) -> None:
    channel = await harness.channel()
    harness.connector.script.extend([Play.OK, Play.REFUSE])
    event = harness.due(channel, texts=("one", "two", "three"))
    await harness.receive(event)
    await harness.work()
    (failed,) = await harness.events(DeliveryFailed)
    assert [(one.remote_id, one.remote_url) for one in failed.segments] == [("1", "https://fake.example/1")]
    assert (failed.segment_count, failed.network_message) == (3, "not with us")
    (delivery,) = await deliveries_of(harness, event)
    assert [(one.state, one.remote.url if one.remote else "") for one in delivery.segments] == [
        ("published", "https://fake.example/1"),
        ("failed", ""),
        ("not_sent", ""),
    ]
    assert [(change.state, change.segments_out) for change in delivery.changes][-2:] == [
        ("publishing", 1),
        ("failed", 1),
    ]
    await harness.work()
    assert len(harness.connector.posts) == 1, "what is out is never sent again"


async def test_a_thread_of_unknown_outcome_says_which_parts_are_out(harness: PublisherHarness) -> None:
    channel = await harness.channel()
    harness.connector.script.extend([Play.OK, Play.LOST_BEFORE])
    event = harness.due(channel, texts=("one", "two", "three"))
    await harness.receive(event)
    await harness.work()
    (unknown,) = await harness.events(DeliveryUnknown)
    assert ([one.remote_id for one in unknown.segments], unknown.segment_count) == (["1"], 3)
    (delivery,) = await deliveries_of(harness, event)
    assert [one.state for one in delivery.segments] == ["published", "unknown", "waiting"]


async def test_a_published_thread_says_where_every_part_is(harness: PublisherHarness) -> None:
    channel = await harness.channel()
    await harness.receive(harness.due(channel, texts=("one", "two")))
    await harness.work()
    (published,) = await harness.events(PostPublished)
    assert [one.remote_url for one in published.segments] == ["https://fake.example/1", "https://fake.example/2"]


async def test_what_our_own_check_refuses_is_not_said_in_the_networks_name(harness: PublisherHarness) -> None:
    channel = await harness.channel()
    harness.connector.review_error = Unacceptable(FailureKind.CONTENT_REJECTED, "The text is too long")
    await harness.receive(harness.due(channel))
    await harness.work()
    (failed,) = await harness.events(DeliveryFailed)
    assert (failed.detail, failed.network_message) == ("The text is too long", "")
    assert failed.kind == FAILURE_KIND_CONTENT_REJECTED
    last = (await harness.rows("delivery_change"))[-1]
    assert (last.detail, last.network_message) == ("The text is too long", "")


async def deliveries_of(harness: PublisherHarness, event: Event[PostDue]) -> list[Delivery]:
    post_id = parse_id(POST, event.message.post_id)
    async with harness.database.reading() as session:
        page = await list_deliveries(session, workspace_id=harness.workspace_id, post_id=post_id)
    return list(page.items)


@given(
    st.sampled_from([state for state in State if state is not State.REMOVED]),
    st.integers(0, 5),
    st.integers(1, 5),
)
def test_every_part_of_a_delivery_has_a_state(state: State, public: int, count: int) -> None:
    remotes = [Remote(str(number), "") for number in range(min(public, count))]
    parts = segments_of(state, remotes, count)
    assert len(parts) == count
    assert [part.state for part in parts[: len(remotes)]] == ["published"] * len(remotes)
    assert all(part.remote is None and part.state != "published" for part in parts[len(remotes) :])
