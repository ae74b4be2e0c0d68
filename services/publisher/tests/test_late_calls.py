"""Calls whose answer was lost and that land later: nothing is said too early, and nothing is sent twice."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import replace
from datetime import timedelta

import pytest
from regie.publisher.events.v1.publisher_events_pb2 import (
    ChannelNeedsAttention,
    DeliveryCancelled,
    DeliveryFailed,
    DeliveryMissed,
    DeliveryUnknown,
    PostPublished,
)
from regie_chassis.ids import DELIVERY, POST, new_id, parse_id, show_id
from regie_local.testing.clock import FakeClock
from regie_networks.absence import QUIET, Repeat
from regie_networks.draft import Remote
from regie_networks.errors import ConnectorError, FailureKind, Inconclusive, OutcomeUnknown, Refused
from regie_publisher.channels import disconnect_channel
from regie_publisher.deliveries.delivery import LEASE, MARGIN
from regie_publisher.deliveries.others import read_others
from regie_publisher.deliveries.resolving import (
    CallMayStillLand,
    RemoteTaken,
    RemoteUrlNotChecked,
    RemoteUrlRefused,
    RemoteUrlRequired,
)
from regie_publisher.deliveries.timeline import list_deliveries
from regie_publisher.hosts import FIRST_PAUSE
from regie_publisher.testing.desk import Desk, NewDesk
from regie_publisher.testing.network import Play

MOMENT = timedelta(seconds=3)


@pytest.mark.parametrize("lateness", [5, 60, 119])
async def test_a_call_that_lands_within_the_quiet_time_is_found_and_not_repeated(
    desk: Desk, clock: FakeClock, lateness: int
) -> None:
    desk.connector.script = deque([Play.LATE])
    desk.connector.lateness = deque([timedelta(seconds=lateness)])
    await desk.receive(desk.due(await desk.channel()))
    await desk.work()
    await desk.settle(clock.advance)
    assert await desk.states() == ["published"]
    assert len(desk.connector.published()) == 1
    assert len(desk.connector.posts) == 1


async def test_a_call_that_never_lands_is_made_again_after_the_quiet_time(desk: Desk, clock: FakeClock) -> None:
    desk.connector.script = deque([Play.LOST_BEFORE])
    event = desk.due(await desk.channel())
    await desk.receive(event)
    await desk.work()
    lost = clock.now()
    await clock.advance(MOMENT)
    await desk.pursuit.find_unknown()
    async with desk.database.reading() as session:
        post_id = parse_id(POST, event.message.post_id)
        [shown] = (await list_deliveries(session, workspace_id=desk.workspace_id, post_id=post_id)).items
    assert (shown.state, shown.call_end, shown.quiet_end) == ("unknown", lost, lost + QUIET)
    assert shown.next_look is not None
    assert clock.now() < shown.next_look <= lost + QUIET
    assert "may still land until" in shown.changes[-1].network_message
    await desk.settle(clock.advance)
    assert clock.now() >= lost + QUIET
    await desk.work()
    assert await desk.states() == ["published"]
    assert len(desk.connector.published()) == 2
    assert len(desk.connector.posts) == 1
    [event] = await desk.said(DeliveryUnknown)
    assert event.quiet_end_time.ToDatetime() - event.call_end_time.ToDatetime() == QUIET
    assert event.HasField("next_look_time")


async def test_under_a_key_of_its_own_a_post_is_written_again_at_once(desk: Desk, clock: FakeClock) -> None:
    desk.connector.repeat = Repeat.AT_ONCE
    desk.connector.script = deque([Play.LATE])
    await desk.receive(desk.due(await desk.channel()))
    await desk.work()
    await clock.advance(MOMENT)
    await desk.pursuit.find_unknown()
    await clock.advance(MOMENT)
    await desk.work()
    assert await desk.states() == ["published"]
    await clock.advance(QUIET)
    desk.connector.land()
    assert len(desk.connector.posts) == 1


async def test_a_server_that_honours_the_key_gets_one_call_at_a_time(desk: Desk, clock: FakeClock) -> None:
    desk.connector.repeat = Repeat.UNDER_KEY
    desk.connector.script = deque([Play.LATE])
    await desk.receive(desk.due(await desk.channel()))
    await desk.work()
    for _ in range(9):
        await clock.advance(MOMENT)
        await desk.pursuit.find_unknown()
        await desk.work()
    assert len(desk.connector.published()) == 1, "the first may be at work there"
    await desk.settle(clock.advance)
    await desk.work()
    assert len(desk.connector.published()) == 2
    assert await desk.states() == ["published"]


@pytest.mark.parametrize("play", [Play.LATE, Play.LOST_AFTER, Play.LOST_BEFORE])
async def test_where_a_look_cannot_tell_whose_a_post_is_the_same_call_under_its_key_can(
    desk: Desk, clock: FakeClock, play: Play
) -> None:
    desk.connector.repeat = Repeat.UNDER_KEY
    desk.connector.script = deque([play])
    desk.connector.finds = deque([Inconclusive("another delivery has the same content")] * 50)
    await desk.receive(desk.due(await desk.channel()))
    await desk.work()
    lost = clock.now()
    await desk.settle(clock.advance)
    await desk.work()
    assert clock.now() >= lost + QUIET / 4
    assert await desk.states() == ["published"]
    assert len(desk.connector.published()) == 2
    await clock.advance(QUIET)
    desk.connector.land()
    assert len(desk.connector.posts) == 1


async def to_its_second_call(desk: Desk, clock: FakeClock, second: Play, **due: timedelta) -> None:
    """Loses the first call, which may land 100 s later, and lets the second one under the same key fail."""
    desk.connector.repeat = Repeat.UNDER_KEY
    desk.connector.script = deque([Play.LATE, second])
    await desk.receive(desk.due(await desk.channel(), **due))
    await desk.work()
    await desk.settle(clock.advance)
    await desk.work()
    assert len(desk.connector.published()) == 2


@pytest.mark.parametrize("second", [Play.REFUSE, Play.EXPIRE, Play.NOT_SENT, Play.LIMIT])
async def test_a_refusal_of_the_second_call_says_nothing_of_the_first(
    desk: Desk, clock: FakeClock, second: Play
) -> None:
    await to_its_second_call(desk, clock, second)
    assert await desk.said(DeliveryFailed) == []
    for _ in range(9):
        await desk.settle(clock.advance)
        await desk.work()
    assert await desk.states() == ["published"]
    assert len(desk.connector.posts) == 1


async def test_a_refusal_stands_once_nothing_can_land_any_more(desk: Desk, clock: FakeClock) -> None:
    desk.connector.repeat = Repeat.UNDER_KEY
    desk.connector.script = deque([Play.LOST_BEFORE, *[Play.REFUSE] * 30])
    await desk.receive(desk.due(await desk.channel()))
    lost = clock.now()
    for _ in range(12):
        await desk.work()
        await desk.settle(clock.advance)
    assert await desk.states() == ["failed"]
    [event] = await desk.said(DeliveryFailed)
    assert event.network_message == "not with us"
    assert (await desk.rows("delivery_change"))[-1].time >= lost + QUIET


@pytest.mark.parametrize("lands", [True, False])
async def test_a_post_that_may_still_land_is_not_called_cancelled(desk: Desk, clock: FakeClock, lands: bool) -> None:
    event = desk.due(await desk.channel())
    desk.connector.repeat = Repeat.UNDER_KEY
    desk.connector.script = deque([Play.LATE if lands else Play.LOST_BEFORE])
    await desk.receive(event)
    await desk.work()
    await desk.settle(clock.advance)
    assert await desk.states() == ["pending"], "it would be repeated under its key"
    await desk.cancel(event)
    await desk.work()
    assert await desk.said(DeliveryCancelled) == []
    assert len(desk.connector.published()) == 1, "a cancelled post is not repeated either"
    await desk.settle(clock.advance)
    await desk.work()
    assert await desk.states() == (["published"] if lands else ["cancelled"])
    assert len(desk.connector.posts) == int(lands)


@pytest.mark.parametrize("repeat", [Repeat.AFTER_QUIET, Repeat.UNDER_KEY, Repeat.AT_ONCE])
@pytest.mark.parametrize("lands", [True, False])
async def test_a_post_that_may_still_land_is_not_called_missed(
    desk: Desk, clock: FakeClock, lands: bool, repeat: Repeat
) -> None:
    desk.connector.repeat = repeat
    desk.connector.script = deque([Play.LATE if lands else Play.LOST_BEFORE])
    await desk.receive(desk.due(await desk.channel(), miss_after=timedelta(seconds=2)))
    await desk.work()
    await clock.advance(MOMENT)
    await desk.work()
    await desk.pursuit.find_unknown()
    await desk.work()
    assert await desk.said(DeliveryMissed) == []
    await desk.settle(clock.advance)
    await desk.work()
    assert await desk.states() == (["published"] if lands else ["missed"])
    assert len(desk.connector.posts) == int(lands)


async def test_a_network_that_cannot_be_read_is_for_a_person_at_once(desk: Desk, clock: FakeClock) -> None:
    desk.connector.repeat = Repeat.BY_PERSON
    desk.connector.script = deque([Play.LATE])
    await desk.receive(desk.due(await desk.channel()))
    await desk.work()
    await desk.settle(clock.advance)
    assert desk.connector.published("find") == []
    assert [event.needs_person for event in await desk.said(DeliveryUnknown)] == [False, True]
    assert len(desk.connector.published()) == 1


async def test_nobody_knows_before_the_quiet_time_that_a_post_is_not_there(desk: Desk, clock: FakeClock) -> None:
    desk.connector.repeat = Repeat.BY_PERSON
    desk.connector.script = deque([Play.LATE])
    await desk.receive(desk.due(await desk.channel()))
    await desk.work()
    with pytest.raises(CallMayStillLand, match="look again after that"):
        await desk.resolve(published=False)
    assert await desk.states() == ["unknown"]
    await clock.advance(QUIET)
    await desk.resolve(published=False)
    assert await desk.states() == ["pending"]
    [row] = await desk.rows()
    assert row.call_end_time is None


async def test_a_person_may_say_at_any_time_that_it_is_there_but_not_at_anothers_address(
    desk: Desk, clock: FakeClock
) -> None:
    channel = await desk.channel()
    desk.connector.script = deque([Play.OK, Play.LOST_AFTER])
    await desk.receive(desk.due(channel))
    await desk.work()
    await desk.receive(desk.due(channel))
    await desk.work()
    with pytest.raises(RemoteTaken):
        await desk.resolve(published=True, remote_url="https://fake.example/1")
    await desk.resolve(published=True, remote_url="https://fake.example/2")
    assert await desk.states() == ["published", "published"]


async def test_when_a_dead_workers_call_ended_is_taken_to_be_as_late_as_it_can(
    new_desk: NewDesk, clock: FakeClock
) -> None:
    dead, living = new_desk(), new_desk()
    dead.connector.script = deque([Play.LATE])
    dead.connector.lateness = deque([LEASE + QUIET - MARGIN])
    await dead.receive(dead.due(await dead.channel()))
    async with dead.database.transaction() as session:
        [held] = await dead.claim_only(session)
    await dead.ledger.mark(held)
    lease_end = clock.now() + LEASE
    await dead.publish_only_quietly(held)
    await clock.advance(LEASE + MOMENT)
    await living.sweep()
    [row] = await living.rows()
    assert (row.call_end_time, row.quiet_end_time) == (lease_end, lease_end + QUIET)
    await living.settle(clock.advance)
    await living.work()
    assert len(living.connector.posts) == 1
    assert await living.states() == ["published"]


async def test_a_post_named_by_the_network_that_another_delivery_holds_is_nobodys_success(desk: Desk) -> None:
    channel = await desk.channel()
    await desk.receive(desk.due(channel))
    await desk.work()
    desk.connector.answer = Remote("1", "https://fake.example/1")
    await desk.receive(desk.due(channel))
    await desk.work()
    assert await desk.states() == ["published", "unknown"]
    [event] = await desk.said(DeliveryUnknown)
    assert event.needs_person
    assert "another delivery of this account holds" in event.reason
    assert len(await desk.said(PostPublished)) == 1


async def test_of_many_answers_with_one_post_one_delivery_gets_it_and_the_others_are_recorded(desk: Desk) -> None:
    channels = [await desk.channel(handle) for handle in ("ada", "ada", "ben")]
    desk.connector.answer = Remote("1", "https://fake.example/1")
    await desk.receive(*(desk.due(channel) for channel in channels for _ in range(5)))
    await desk.work()
    states = await desk.states()
    assert states.count("published") == 2, "one for each account"
    assert states.count("unknown") == 13
    assert len(await desk.said(DeliveryUnknown)) == 13
    held = await desk.rows("remote", "account")
    assert [row.account.rpartition("#")[2] for row in held] == ["ada", "ben"]


async def test_one_account_in_two_workspaces_is_one_account(desk: Desk) -> None:
    other = replace(desk, workspace_id=new_id())
    await desk.receive(desk.due(await desk.channel()))
    await desk.work()
    desk.connector.answer = Remote("1", "https://fake.example/1")
    await other.receive(other.due(await other.channel()))
    await other.work()
    assert await desk.states() == ["published", "unknown"]


async def test_each_part_of_a_thread_holds_its_own_post(desk: Desk) -> None:
    await desk.receive(desk.due(await desk.channel(), texts=("one", "two", "three")))
    await desk.work()
    held = await desk.rows("remote", "segment")
    assert [(row.remote_id, row.segment) for row in held] == [("1", 0), ("2", 1), ("3", 2)]


async def test_the_open_deliveries_of_a_channel_share_a_look(desk: Desk, clock: FakeClock) -> None:
    ada, ben = await desk.channel("ada"), await desk.channel("ben")
    desk.connector.script = deque([Play.LOST_AFTER] * 6)
    await desk.receive(*(desk.due(channel) for channel in (ada, ben) for _ in range(3)))
    await desk.work()
    # After so many calls without an answer, one channel is looked at first, to see whether the host answers again.
    await clock.advance(FIRST_PAUSE)
    await desk.pursuit.find_unknown()
    assert len(desk.connector.looks) == 3
    await desk.pursuit.find_unknown()
    assert len(desk.connector.looks) == 6
    assert len(set(map(id, desk.connector.looks))) == 2


async def test_a_look_that_is_told_to_wait_holds_back_every_look_and_call_of_the_channel(
    desk: Desk, clock: FakeClock
) -> None:
    channel = await desk.channel()
    desk.connector.script = deque([Play.LOST_BEFORE, Play.LOST_BEFORE])
    await desk.receive(desk.due(channel))
    await desk.work()
    await clock.advance(timedelta(seconds=1))
    await desk.receive(desk.due(channel))
    await desk.work()
    wait = timedelta(minutes=5)
    desk.connector.finds = deque([Refused(FailureKind.RATE_LIMITED, "slow down", retry_after=wait)])
    await clock.advance(timedelta(seconds=1))
    assert await desk.pursuit.find_unknown() == 1
    until = clock.now() + wait
    assert [row.act_time for row in await desk.rows()] == [until, until]
    [row] = await desk.rows("channel")
    assert row.block_time == until


async def test_a_token_that_is_gone_is_noticed_while_looking(desk: Desk, clock: FakeClock) -> None:
    desk.connector.script = deque([Play.LOST_BEFORE])
    desk.connector.finds = deque([Refused(FailureKind.AUTH_EXPIRED, "token revoked")])
    await desk.receive(desk.due(await desk.channel()))
    await desk.work()
    await clock.advance(MOMENT)
    await desk.pursuit.find_unknown()
    [event] = await desk.said(ChannelNeedsAttention)
    assert event.reason == "token revoked"
    assert await desk.states() == ["unknown"]


async def test_another_revision_of_a_post_that_is_out_or_on_its_way_does_not_go_out(
    desk: Desk, clock: FakeClock
) -> None:
    channel, post_id = await desk.channel(), new_id()
    desk.connector.script = deque([Play.LATE])
    await desk.receive(desk.due(channel, post_id=post_id))
    await desk.work()
    await desk.receive(desk.due(channel, post_id=post_id, revision=2))
    await desk.settle(clock.advance)
    await desk.receive(desk.due(channel, post_id=post_id, revision=3))
    await desk.work()
    assert await desk.states() == ["published", "failed", "failed"]
    assert {event.kind for event in await desk.said(DeliveryFailed)} == {"duplicate_content"}
    assert len(desk.connector.posts) == 1


async def test_another_revision_of_a_post_that_failed_goes_out(desk: Desk) -> None:
    channel, post_id = await desk.channel(), new_id()
    desk.connector.script = deque([Play.REFUSE])
    await desk.receive(desk.due(channel, post_id=post_id))
    await desk.work()
    await desk.receive(desk.due(channel, post_id=post_id, revision=2))
    await desk.work()
    assert await desk.states() == ["failed", "published"]


async def test_a_post_that_a_person_named_is_taken_and_another_delivery_is_named_with_it(desk: Desk) -> None:
    channel = await desk.channel()
    desk.connector.script = deque([Play.LOST_AFTER, Play.LOST_BEFORE])
    await desk.receive(desk.due(channel), desk.due(channel))
    await desk.work()
    mine, other = await desk.rows()
    await desk.resolve(published=True, remote_url=" https://fake.example/1\n", delivery_id=mine.id)
    held = await desk.rows("remote", "segment")
    assert [(row.delivery_id, row.remote_id) for row in held] == [(mine.id, "1")]
    with pytest.raises(RemoteTaken, match=f"another delivery's post, {show_id(DELIVERY, mine.id)}"):
        await desk.resolve(published=True, remote_url="https://fake.example/1", delivery_id=other.id)


async def test_a_post_of_another_text_is_not_taken_so_that_its_own_delivery_finds_it(
    desk: Desk, clock: FakeClock
) -> None:
    channel = await desk.channel()
    desk.connector.script = deque([Play.LOST_AFTER, Play.LOST_BEFORE])
    await desk.receive(desk.due(channel, texts=("one",)), desk.due(channel, texts=("another",)))
    await desk.work()
    one, another = sorted(await desk.rows(), key=lambda row: row.id)
    [post] = desk.connector.posts
    mistaken = one if post.key != one.segment_keys[0] else another
    with pytest.raises(RemoteUrlRefused, match="another text"):
        await desk.resolve(published=True, remote_url="https://fake.example/1", delivery_id=mistaken.id)
    await desk.settle(clock.advance)
    await desk.work()
    assert sorted(post.text for post in desk.connector.posts) == ["another", "one"]
    assert await desk.states() == ["published", "published"]


@pytest.mark.parametrize("error", [OutcomeUnknown("502"), Refused(FailureKind.AUTH_EXPIRED, "token revoked")])
async def test_an_address_that_cannot_be_checked_settles_nothing_and_is_not_needed(
    desk: Desk, error: ConnectorError
) -> None:
    desk.connector.script = deque([Play.LOST_AFTER])
    await desk.receive(desk.due(await desk.channel()))
    await desk.work()
    desk.connector.finds = deque([error])
    with pytest.raises(RemoteUrlNotChecked, match="leave remote_url out") as refused:
        await desk.resolve(published=True, remote_url="https://fake.example/1")
    assert (refused.value.http_status, await desk.states()) == (503, ["unknown"])
    settled = await desk.resolve(published=True)
    assert (settled.state, settled.remote) == ("published", Remote("", ""))


async def test_the_token_of_a_channel_that_was_disconnected_is_used_no_more(desk: Desk) -> None:
    channel = await desk.channel()
    desk.connector.script = deque([Play.LOST_AFTER])
    await desk.receive(desk.due(channel))
    await desk.work()
    async with desk.database.transaction() as session:
        await disconnect_channel(session, workspace_id=desk.workspace_id, channel_id=channel, now=desk.clock.now())
    with pytest.raises(RemoteUrlNotChecked, match="connect it again"):
        await desk.resolve(published=True, remote_url="https://fake.example/1")


async def test_of_a_thread_the_part_in_question_is_settled_and_the_rest_follows(desk: Desk) -> None:
    desk.connector.script = deque([Play.OK, Play.LOST_AFTER])
    await desk.receive(desk.due(await desk.channel(), texts=("one", "two", "three")))
    await desk.work()
    with pytest.raises(RemoteUrlRequired, match="give the address of part 2"):
        await desk.resolve(published=True)
    await desk.resolve(published=True, remote_url="https://fake.example/2")
    await desk.work()
    assert await desk.states() == ["published"]
    assert [(post.text, post.reply_to) for post in desk.connector.posts] == [("one", ""), ("two", "1"), ("three", "2")]


async def test_of_two_people_who_name_one_post_at_once_the_second_is_refused(desk: Desk) -> None:
    channel = await desk.channel()
    desk.connector.script = deque([Play.LOST_AFTER, Play.LOST_BEFORE])
    await desk.receive(desk.due(channel), desk.due(channel))
    await desk.work()
    both = [
        desk.resolve(published=True, remote_url="https://fake.example/1", delivery_id=row.id)
        for row in await desk.rows()
    ]
    answers = await asyncio.gather(*both, return_exceptions=True)
    assert sorted(type(answer).__name__ for answer in answers) == ["Delivery", "RemoteTaken"]
    assert sorted(await desk.states()) == ["published", "unknown"]
    [left] = [row for row in await desk.rows() if row.state == "unknown"]
    assert (left.needs_person, left.act_time is None) == (False, False), "the looks go on"


async def test_a_part_of_a_thread_that_is_out_is_not_taken_for_the_next(desk: Desk) -> None:
    channel = await desk.channel()
    desk.connector.script = deque([Play.OK, Play.LOST_BEFORE])
    await desk.receive(desk.due(channel, texts=("one", "two")))
    await desk.work()
    with pytest.raises(RemoteTaken, match=r"part 1, .* give the one of part 2"):
        await desk.resolve(published=True, remote_url="https://fake.example/1")
    [row] = await desk.rows()
    assert (row.state, row.act_time is None) == ("unknown", False), "the looks go on"


async def test_a_post_that_a_person_called_published_without_an_address_stays_a_rival(desk: Desk) -> None:
    channel = await desk.channel()
    desk.connector.script = deque([Play.LOST_AFTER, Play.LOST_BEFORE])
    await desk.receive(desk.due(channel), desk.due(channel))
    await desk.work()
    mine, _ = await desk.rows()
    await desk.resolve(published=True, delivery_id=mine.id)
    async with desk.database.reading() as session:
        others = await read_others(session, channel_id=channel, remote_ids=["1"])
    assert mine.segment_keys[0] in {rival.key for rival in others.rivals}
