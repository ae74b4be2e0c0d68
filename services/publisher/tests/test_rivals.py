"""A post belongs to one delivery of an account."""

from __future__ import annotations

from collections import deque
from dataclasses import replace

from regie.publisher.events.v1.publisher_events_pb2 import (
    FAILURE_KIND_DUPLICATE_CONTENT,
    DeliveryFailed,
    DeliveryUnknown,
    PostPublished,
)
from regie_chassis.boundary.ids import new_id
from regie_local.testing.clock import FakeClock
from regie_networks.draft import Remote
from regie_publisher.testing.harness import PublisherHarness
from regie_publisher.testing.network import Play


async def test_a_post_named_by_the_network_that_another_delivery_holds_is_nobodys_success(
    harness: PublisherHarness,
) -> None:
    channel = await harness.channel()
    await harness.receive(harness.due(channel))
    await harness.work()
    harness.connector.answer = Remote("1", "https://fake.example/1")
    await harness.receive(harness.due(channel))
    await harness.work()
    assert await harness.states() == ["published", "unknown"]
    [event] = await harness.events(DeliveryUnknown)
    assert event.needs_person
    assert "another delivery of this account holds" in event.reason
    assert len(await harness.events(PostPublished)) == 1


async def test_of_many_answers_with_one_post_one_delivery_gets_it_and_the_others_are_recorded(
    harness: PublisherHarness,
) -> None:
    channels = [await harness.channel(handle) for handle in ("ada", "ada", "ben")]
    harness.connector.answer = Remote("1", "https://fake.example/1")
    await harness.receive(*(harness.due(channel) for channel in channels for _ in range(5)))
    await harness.work()
    states = await harness.states()
    assert states.count("published") == 2, "one for each account"
    assert states.count("unknown") == 13
    assert len(await harness.events(DeliveryUnknown)) == 13
    held = await harness.rows("remote", "account")
    assert [row.account.rpartition("#")[2] for row in held] == ["ada", "ben"]


async def test_one_account_in_two_workspaces_is_one_account(harness: PublisherHarness) -> None:
    other = replace(harness, workspace_id=new_id())
    await harness.receive(harness.due(await harness.channel()))
    await harness.work()
    harness.connector.answer = Remote("1", "https://fake.example/1")
    await other.receive(other.due(await other.channel()))
    await other.work()
    assert await harness.states() == ["published", "unknown"]


async def test_each_part_of_a_thread_holds_its_own_post(harness: PublisherHarness) -> None:
    await harness.receive(harness.due(await harness.channel(), texts=("one", "two", "three")))
    await harness.work()
    held = await harness.rows("remote", "segment")
    assert [(row.remote_id, row.segment) for row in held] == [("1", 0), ("2", 1), ("3", 2)]


async def test_another_revision_of_a_post_that_is_out_or_on_its_way_does_not_go_out(
    harness: PublisherHarness, clock: FakeClock
) -> None:
    channel, post_id = await harness.channel(), new_id()
    harness.connector.script = deque([Play.LATE])
    await harness.receive(harness.due(channel, post_id=post_id))
    await harness.work()
    await harness.receive(harness.due(channel, post_id=post_id, revision=2))
    await harness.settle(clock.advance)
    await harness.receive(harness.due(channel, post_id=post_id, revision=3))
    await harness.work()
    assert await harness.states() == ["published", "failed", "failed"]
    assert {event.kind for event in await harness.events(DeliveryFailed)} == {FAILURE_KIND_DUPLICATE_CONTENT}
    assert len(harness.connector.posts) == 1


async def test_another_revision_of_a_post_that_failed_goes_out(harness: PublisherHarness) -> None:
    channel, post_id = await harness.channel(), new_id()
    harness.connector.script = deque([Play.REFUSE])
    await harness.receive(harness.due(channel, post_id=post_id))
    await harness.work()
    await harness.receive(harness.due(channel, post_id=post_id, revision=2))
    await harness.work()
    assert await harness.states() == ["failed", "published"]
