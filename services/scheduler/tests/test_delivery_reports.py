"""The effects of the publisher's events on a post."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from google.protobuf.message import Message
from regie.ids.v1.prefixes import CHANNEL, POST
from regie.publisher.events.v1.publisher_events_pb2 import (
    DeliveryCancelled,
    DeliveryFailed,
    DeliveryMissed,
    DeliveryProcessing,
    DeliveryUnknown,
    FailureKind,
    FailureSource,
    PostPublished,
    PostRemoved,
    RemoteSegment,
)
from regie.scheduler.events.v1.scheduler_events_pb2 import DueVariant, PostFinished
from regie.scheduler.v1.posts_service_pb2 import (
    POST_STATE_FAILED,
    POST_STATE_PARTIALLY_PUBLISHED,
    POST_STATE_PUBLISHED,
    VARIANT_STATE_FAILED,
    VARIANT_STATE_PUBLISHED,
)
from regie_chassis.boundary.ids import InvalidId, new_id, show_id
from regie_chassis.data.database import Database
from regie_chassis.events import inbox
from regie_chassis.events.messaging import Event
from regie_local.testing.clock import FakeClock
from regie_local.testing.service_fixtures import Staged
from regie_scheduler.events import subscriptions
from regie_scheduler.posts import planning
from regie_scheduler.posts.due import dispatch_due
from regie_scheduler.posts.planning import Command
from regie_scheduler.posts.post import Post
from regie_scheduler.posts.protobuf import POST_STATES
from regie_scheduler.posts.states import PostState
from regie_scheduler.posts.timeline import Change, DeliveryStatus
from regie_scheduler.testing import Planner, due_variant

SECOND = timedelta(seconds=1)


def channels(post: Post) -> list[str]:
    return [DueVariant.FromString(variant.content).channel_id for variant in post.variants]


class Publisher:
    """Hands the publisher's events to the scheduler, as the consumer does."""

    def __init__(self, database: Database, workspace_id: UUID, clock: FakeClock) -> None:
        self.database = database
        self.workspace_id = workspace_id
        self.clock = clock

    def event(self, message: Message) -> Event[Any]:
        return Event(new_id(), self.workspace_id, self.clock.now(), message, f"00-{'a' * 32}-{'b' * 16}-01")

    async def report(self, *messages: Message) -> None:
        await self.deliver([self.event(message) for message in messages])

    async def deliver(self, events: Sequence[Event[Any]]) -> None:
        async with self.database.transaction() as session:
            fresh = await inbox.claim(session, [event.id for event in events])
            for event in events:
                if event.id in fresh:
                    await subscriptions()[type(event.message)](session, [event])

    async def report_together(self, *messages: Message) -> None:
        async with self.database.transaction() as session:
            await subscriptions()[type(messages[0])](session, [self.event(message) for message in messages])


@pytest.fixture
def publisher(database: Database, workspace_id: UUID, clock: FakeClock) -> Publisher:
    return Publisher(database, workspace_id, clock)


@pytest.fixture
async def dispatched(database: Database, planner: Planner, clock: FakeClock) -> Post:
    """A thread of three segments on three channels that has left."""
    post = await planner.create(leaves=SECOND, variants=[due_variant(segments=3) for _ in range(3)])
    await clock.advance(SECOND)
    assert await dispatch_due(database, now=clock.now()) == 1
    return post


def ids(post: Post, number: int, *, revision: int = 1) -> dict[str, Any]:
    return {
        "post_id": show_id(POST, post.id),
        "channel_id": channels(post)[number],
        "revision": revision,
        "delivery_id": f"dlv_{number}",
    }


def published(post: Post, number: int, **changes: Any) -> PostPublished:
    return PostPublished(
        **ids(post, number, **changes), remote_id=f"id{number}", remote_url=f"https://n.example/{number}"
    )


def failed(post: Post, number: int, **changes: Any) -> DeliveryFailed:
    return DeliveryFailed(
        **{**ids(post, number), **changes},
        kind=FailureKind.FAILURE_KIND_CONTENT_REJECTED,
        source=FailureSource.FAILURE_SOURCE_USER,
        network_message="too\0 long",
    )


async def delivery_statuses(planner: Planner, post: Post) -> list[DeliveryStatus]:
    return [item for item in await planner.timeline(post) if isinstance(item, DeliveryStatus)]


async def test_a_post_is_published_when_its_last_delivery_is(
    planner: Planner, publisher: Publisher, dispatched: Post, staged: Staged
) -> None:
    await publisher.report(published(dispatched, 0), published(dispatched, 1))
    assert (await planner.get(dispatched)).state is PostState.DISPATCHED
    assert await staged(PostFinished) == []
    await publisher.report(published(dispatched, 2))
    post = await planner.get(dispatched)
    assert post.state is PostState.PUBLISHED
    assert [(one.state, one.remote_id) for one in post.variants] == [("published", f"id{n}") for n in range(3)]
    (finished,) = await staged(PostFinished)
    assert (finished.post_id, finished.state) == (show_id(POST, post.id), POST_STATE_PUBLISHED)


async def test_the_end_tells_what_became_of_each_delivery(
    publisher: Publisher, dispatched: Post, staged: Staged
) -> None:
    await publisher.report(failed(dispatched, 2), published(dispatched, 0), failed(dispatched, 1))
    await publisher.report(published(dispatched, 1))
    first, then = await staged(PostFinished)
    assert [(one.channel_id, one.state) for one in first.outcomes] == list(
        zip(channels(dispatched), [VARIANT_STATE_PUBLISHED, VARIANT_STATE_FAILED, VARIANT_STATE_FAILED], strict=True)
    )
    assert [one.delivery_id for one in first.outcomes] == ["dlv_0", "dlv_1", "dlv_2"]
    assert [one.remote_id for one in first.outcomes] == ["id0", "", ""]
    assert [(one.failure_kind, one.failure) for one in first.outcomes[1:]] == [
        ("content_rejected", "too\ufffd long")
    ] * 2
    # The post is partly out as before, yet one more channel has it.
    assert (then.state, [one.state for one in then.outcomes]) == (
        first.state,
        [VARIANT_STATE_PUBLISHED, VARIANT_STATE_PUBLISHED, VARIANT_STATE_FAILED],
    )
    assert (then.outcomes[1].failure_kind, then.revision) == ("", dispatched.revision)


async def test_a_batch_of_news_is_written_together(
    planner: Planner, publisher: Publisher, dispatched: Post, staged: Staged
) -> None:
    await publisher.report_together(*[published(dispatched, number) for number in (2, 0, 1, 0)])
    assert (await planner.get(dispatched)).state is PostState.PUBLISHED
    assert len(await staged(PostFinished)) == 1
    assert [str(change.state) for change in await planner.timeline(dispatched)].count("published") == 4


@pytest.mark.parametrize(
    ("network", "ours", "failure"),
    [
        (
            "Too many calls.",
            "it may be tried again only too late",
            "Too many calls. (it may be tried again only too late)",
        ),
        ("Too many calls.", "", "Too many calls."),
        ("", "the channel is disconnected", "the channel is disconnected"),
    ],
)
async def test_our_words_about_a_failure_follow_the_networks_in_brackets(
    planner: Planner, publisher: Publisher, dispatched: Post, network: str, ours: str, failure: str
) -> None:
    message = failed(dispatched, 2)
    message.network_message, message.detail = network, ours
    await publisher.report(message)
    assert (await planner.get(dispatched)).variants[2].failure == failure


async def test_what_failed_is_told_in_the_networks_own_words(
    planner: Planner, publisher: Publisher, dispatched: Post
) -> None:
    await publisher.report(published(dispatched, 0), published(dispatched, 1), failed(dispatched, 2))
    post = await planner.get(dispatched)
    assert post.state is PostState.PARTIALLY_PUBLISHED
    assert (post.variants[2].state, post.variants[2].failure) == ("failed", "too\ufffd long")
    statuses = await delivery_statuses(planner, dispatched)
    assert [status.detail for status in statuses[:2]] == ["https://n.example/0", "https://n.example/1"]
    assert statuses[2].detail == "content_rejected: too\ufffd long"
    assert show_id(CHANNEL, statuses[2].channel_id) == channels(dispatched)[2]
    ended = [change for change in await planner.timeline(dispatched) if isinstance(change, Change)][-1]
    assert (ended.cause, ended.trace_id) == ("publisher", "a" * 32)


@pytest.mark.parametrize(
    ("kinds", "state"),
    [
        ((DeliveryCancelled, DeliveryCancelled, DeliveryCancelled), PostState.CANCELLED),
        ((DeliveryMissed, DeliveryMissed, DeliveryMissed), PostState.MISSED),
        ((DeliveryFailed, DeliveryCancelled, DeliveryMissed), PostState.FAILED),
        ((PostPublished, DeliveryCancelled, DeliveryCancelled), PostState.PARTIALLY_PUBLISHED),
        ((PostPublished, DeliveryUnknown, DeliveryProcessing), PostState.DISPATCHED),
    ],
)
async def test_the_deliveries_add_up_to_the_post(
    planner: Planner,
    publisher: Publisher,
    dispatched: Post,
    kinds: tuple[type[Message], ...],
    state: PostState,
    staged: Staged,
) -> None:
    await publisher.report(*[kind(**ids(dispatched, number)) for number, kind in enumerate(kinds)])
    assert (await planner.get(dispatched)).state is state
    assert [one.state for one in await staged(PostFinished)] == (
        [] if state is PostState.DISPATCHED else [POST_STATES[state]]
    )


async def test_a_cancelled_post_that_was_partly_out_says_so(
    planner: Planner, publisher: Publisher, dispatched: Post, database: Database, clock: FakeClock, workspace_id: UUID
) -> None:
    await publisher.report(published(dispatched, 0))
    async with database.transaction() as session:
        await planning.cancel_post(session, Command(workspace_id, dispatched.id, "", clock.now()))
    assert (await planner.get(dispatched)).state is PostState.DISPATCHED
    await publisher.report(*[DeliveryCancelled(**ids(dispatched, number)) for number in (1, 2)])
    assert (await planner.get(dispatched)).state is PostState.PARTIALLY_PUBLISHED


async def test_a_failure_that_turns_out_published_finishes_the_post_anew(
    planner: Planner, publisher: Publisher, dispatched: Post, staged: Staged
) -> None:
    await publisher.report(*[failed(dispatched, number) for number in range(3)])
    await publisher.report(published(dispatched, 1))
    assert [one.state for one in await staged(PostFinished)] == [POST_STATE_FAILED, POST_STATE_PARTIALLY_PUBLISHED]
    assert (await planner.get(dispatched)).variants[1].failure == ""


async def test_late_news_never_leads_back(
    planner: Planner, publisher: Publisher, dispatched: Post, staged: Staged
) -> None:
    await publisher.report(*[published(dispatched, number) for number in range(3)])
    before = await planner.get(dispatched)
    await publisher.report(
        failed(dispatched, 0),
        DeliveryUnknown(**ids(dispatched, 1)),
        DeliveryProcessing(**ids(dispatched, 2)),
        DeliveryCancelled(**ids(dispatched, 2)),
    )
    assert await planner.get(dispatched) == before
    assert len(await staged(PostFinished)) == 1


async def test_an_event_delivered_again_changes_nothing(
    planner: Planner, publisher: Publisher, dispatched: Post, staged: Staged
) -> None:
    events = [publisher.event(published(dispatched, number)) for number in range(3)]
    for _ in range(10):
        await publisher.deliver(events)
    assert len(await staged(PostFinished)) == 1
    ends = [change for change in await planner.timeline(dispatched) if change.state is PostState.PUBLISHED]
    assert len(ends) == 1


async def test_news_of_another_revision_workspace_post_or_channel_is_ignored(
    publisher: Publisher, dispatched: Post, planner: Planner, database: Database, clock: FakeClock
) -> None:
    before = await planner.get(dispatched)
    elsewhere = PostPublished(**{**ids(dispatched, 0), "channel_id": show_id(CHANNEL, new_id())})
    nowhere = PostPublished(**{**ids(dispatched, 0), "post_id": show_id(POST, new_id())})
    await publisher.report(published(dispatched, 0, revision=2), elsewhere, nowhere)
    await Publisher(database, new_id(), clock).report(published(dispatched, 0))
    assert await planner.get(dispatched) == before
    planned = await planner.create(leaves=SECOND)
    await publisher.report(published(planned, 0))
    assert (await planner.get(planned)).state is PostState.SCHEDULED


async def test_an_event_with_a_broken_id_is_refused_for_the_dead_letters(publisher: Publisher) -> None:
    with pytest.raises(InvalidId):
        await publisher.report(PostPublished(post_id="42", channel_id="43"))


async def test_the_last_two_deliveries_told_to_two_replicas_at_once_finish_the_post_once(
    publisher: Publisher, planner: Planner, database: Database, clock: FakeClock, staged: Staged
) -> None:
    posts = [await planner.create(leaves=SECOND, channels=4) for _ in range(10)]
    await clock.advance(SECOND)
    await dispatch_due(database, now=clock.now())
    await asyncio.gather(
        *[publisher.report_together(*[published(post, number) for post in posts]) for number in range(4)]
    )
    assert {(await planner.get(post)).state for post in posts} == {PostState.PUBLISHED}
    assert sorted(one.post_id for one in await staged(PostFinished)) == sorted(show_id(POST, post.id) for post in posts)


async def test_each_part_of_a_thread_is_shown_as_soon_as_it_is_out(
    planner: Planner, publisher: Publisher, dispatched: Post
) -> None:
    parts = [RemoteSegment(remote_id=str(at), remote_url=f"https://net.example/{at}") for at in (1, 2)]

    def processing(count: int) -> DeliveryProcessing:
        return DeliveryProcessing(**ids(dispatched, 0), segments=parts[:count], segment_count=3)

    async def shown() -> tuple[str, int]:
        variant = (await planner.get(dispatched)).variants[0]
        return variant.state, len(json.loads(variant.remote_segments))

    await publisher.report(processing(1))
    assert await shown() == ("processing", 1)
    await publisher.report(DeliveryUnknown(**ids(dispatched, 0), segments=parts[:1], segment_count=3))
    assert await shown() == ("unknown", 1)
    await publisher.report(processing(1))
    assert await shown() == ("unknown", 1), "told late or twice, it is no news"
    await publisher.report(processing(2))
    assert await shown() == ("processing", 2)
    assert (await planner.get(dispatched)).state is PostState.DISPATCHED
    await publisher.report(failed(dispatched, 0, segments=parts, segment_count=3))
    await publisher.report(processing(2))
    assert await shown() == ("failed", 2)
    (status,) = await delivery_statuses(planner, dispatched)
    assert status.detail == "content_rejected: too\ufffd long (2 of 3 parts are out, from https://net.example/1)"


async def test_a_post_of_which_a_part_is_out_is_partially_published(
    planner: Planner, publisher: Publisher, dispatched: Post, staged: Staged
) -> None:
    out = [RemoteSegment(remote_id="1", remote_url="https://net.example/1")]
    await publisher.report(
        failed(dispatched, 0, segments=out, segment_count=3), *(failed(dispatched, at) for at in others(dispatched))
    )
    post = await planner.get(dispatched)
    assert post.state is PostState.PARTIALLY_PUBLISHED
    assert (post.variants[0].remote_id, post.variants[0].remote_url) == ("1", "https://net.example/1")
    assert json.loads(post.variants[0].remote_segments) == [["1", "https://net.example/1"]]
    assert any("1 of 3 parts are out, from https://net.example/1" in one.detail for one in await planner.timeline(post))


async def test_a_post_that_its_network_no_longer_has_stays_published(
    planner: Planner, publisher: Publisher, dispatched: Post, clock: FakeClock
) -> None:
    await publisher.report(*(published(dispatched, at) for at in (0, *others(dispatched))))
    seen = PostRemoved(post_id=ids(dispatched, 0)["post_id"], channel_id=ids(dispatched, 0)["channel_id"])
    seen.observe_time.FromDatetime(clock.now())
    await publisher.report(seen)
    post = await planner.get(dispatched)
    assert post.state is PostState.PUBLISHED
    assert [variant.remove_time for variant in post.variants] == [clock.now(), *[None] * len(others(dispatched))]


def others(post: Post) -> range:
    return range(1, len(post.variants))
