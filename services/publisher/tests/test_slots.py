"""The choice of the next delivery, as pure rules: no load fills all slots, and no usable slot stays empty."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from regie_local.testing.clock import START
from regie_publisher.fairness.due_work import DueWork
from regie_publisher.fairness.hosts import FIRST_PAUSE, FIRST_WINDOW, MAX_PAUSE, SILENT_IN_A_ROW, Hosts
from regie_publisher.fairness.sharing import Limits, TakenSlots, share_out
from regie_publisher.fairness.slots import Slots

SECOND = timedelta(seconds=1)
TOTAL = 40


def workspace(number: int) -> UUID:
    return UUID(int=number)


def waiting(number: int, *, space: int, channel: int = 0, host: str = "") -> DueWork:
    channel_id = UUID(int=1000 * space + channel)
    return DueWork(UUID(int=number), workspace(space), channel_id, host or f"host{space}", START + number * SECOND)


def backlog(count: int, *, space: int, channels: int = 100, hosts: int = 1, start: int = 0) -> list[DueWork]:
    return [
        waiting(start + number, space=space, channel=number % channels, host=f"host{space}-{number % hosts}")
        for number in range(count)
    ]


def proven(*spaces: int, hosts: int = 1) -> Hosts:
    known = Hosts(max_window=TOTAL)
    for space in spaces:
        for number in range(hosts):
            for _ in range(TOTAL):
                known.answered((workspace(space), f"host{space}-{number}"))
    return known


def taken_by(due: list[DueWork], held: TakenSlots, hosts: Hosts) -> Counter[UUID]:
    choice = share_out(due, taken_slots=held, limits=Limits(TOTAL, 8), hosts=hosts, now=START)
    return Counter(one.workspace_id for one in choice.taken)


def test_one_workspace_alone_gets_all_but_the_reserve() -> None:
    assert taken_by(backlog(1000, space=1), TakenSlots(), proven(1)) == {workspace(1): TOTAL - TOTAL // 5}


def test_who_holds_nothing_is_served_though_another_holds_all_it_can() -> None:
    held = TakenSlots()
    for one in backlog(TOTAL - TOTAL // 5, space=1):
        held.add(one)
    due = [*backlog(1000, space=1), *backlog(3, space=2, start=5000)]
    assert taken_by(due, held, proven(1, 2)) == {workspace(2): 2}
    assert taken_by(due[:1000], held, proven(1, 2)) == {}


def test_who_holds_less_comes_first() -> None:
    due = [*backlog(100, space=1), *backlog(100, space=2, start=5000)]
    assert taken_by(due, TakenSlots(), proven(1, 2)) == {workspace(1): 16, workspace(2): 16}


def test_a_host_that_has_yet_to_answer_gets_few_calls() -> None:
    assert taken_by(backlog(100, space=1), TakenSlots(), Hosts(first_window=3)) == {workspace(1): 3}


def test_many_names_of_one_server_do_not_get_many_places() -> None:
    assert taken_by(backlog(100, space=1, hosts=100), TakenSlots(), Hosts()) == {workspace(1): TOTAL // 8}


def test_hosts_that_do_not_answer_leave_the_workspaces_other_hosts_alone() -> None:
    due = [*backlog(100, space=1, hosts=50, start=0), *backlog(10, space=1, start=200)]
    hosts = proven(1)
    choice = share_out(due, taken_slots=TakenSlots(), limits=Limits(TOTAL, 8), hosts=hosts, now=START)
    by_host = Counter(hosts.is_proven(one.peer) for one in choice.taken)
    assert by_host[False] == TOTAL // 8
    assert by_host[True] == 12


SPACES = st.lists(st.integers(0, 4), max_size=60)


@given(SPACES, SPACES, st.integers(1, 3), st.sets(st.integers(0, 4)))
def test_places_are_bounded_and_none_is_left_to_nobody(
    holding: list[int], asking: list[int], channels: int, known: set[int]
) -> None:
    limits, hosts = Limits(12, 3), proven(*known)
    held = TakenSlots()
    for at, space in enumerate(holding):
        if held.total < limits.total:
            held.add(waiting(9000 + at, space=space, channel=at % channels, host=f"host{space}-0"))
    before = held.copy()
    due = [waiting(at, space=space, channel=at % channels, host=f"host{space}-0") for at, space in enumerate(asking)]
    choice = share_out(due, taken_slots=held, limits=limits, hosts=hosts, now=START)
    assert held == before
    for delivery in choice.taken:
        held.add(delivery)
        assert held.channels[delivery.channel_id] <= limits.per_channel
        assert held.peers[delivery.peer] <= hosts.window(delivery.peer, START)
    assert held.total <= limits.total
    left = [delivery for delivery in due if delivery not in choice.taken]
    for delivery in left:  # each waits for a reason that is its own, or for places that are kept for others
        assert (
            held.total == limits.total
            or (
                held.total >= limits.total - limits.reserve
                and held.workspaces.get(delivery.workspace_id, 0) >= limits.few
            )
            or held.channels.get(delivery.channel_id, 0) >= limits.per_channel
            or held.peers.get(delivery.peer, 0) >= hosts.window(delivery.peer, START)
            or held.hosts.get(delivery.host, 0) >= limits.per_host
            or not hosts.is_proven(delivery.peer)
        )


PEER = (workspace(1), "evil.example")


def fall_silent(hosts: Hosts, times: int, now: int = 0, posts: int = 10) -> None:
    for number in range(times):
        hosts.silent(PEER, START + now * SECOND, cause=UUID(int=number % posts))


def test_a_host_that_is_silent_is_left_alone_for_ever_longer_and_then_seen_to_by_one_call() -> None:
    hosts = Hosts()
    fall_silent(hosts, SILENT_IN_A_ROW - 1)
    assert hosts.pause_of(PEER, START) is None
    fall_silent(hosts, 3)
    until = hosts.pause_of(PEER, START)
    assert until == START + FIRST_PAUSE, "the calls that were under way do not lengthen it"
    assert hosts.window(PEER, START) == 0
    assert hosts.window(PEER, until) == 1
    fall_silent(hosts, 1, now=10)
    assert hosts.pause_of(PEER, START + 10 * SECOND) == START + 10 * SECOND + 2 * FIRST_PAUSE
    for number in range(20):
        fall_silent(hosts, 1, now=1000 * number + 1000)
    assert hosts.pause_of(PEER, START + 20_000 * SECOND) == START + 20_000 * SECOND + MAX_PAUSE


def test_an_answer_ends_the_pause_and_the_host_begins_small() -> None:
    hosts = Hosts()
    fall_silent(hosts, 10)
    hosts.answered(PEER)
    assert hosts.pause_of(PEER, START) is None
    assert hosts.window(PEER, START) > FIRST_WINDOW
    fall_silent(hosts, SILENT_IN_A_ROW - 1)
    assert hosts.pause_of(PEER, START) is None


def test_one_post_that_is_tried_again_and_again_does_not_stop_the_others() -> None:
    hosts = Hosts()
    fall_silent(hosts, 50, posts=2)
    assert hosts.pause_of(PEER, START) is None


def test_what_one_workspace_does_at_a_host_is_not_held_against_another() -> None:
    hosts = Hosts()
    fall_silent(hosts, 10)
    other = (workspace(2), PEER[1])
    assert hosts.pause_of(other, START) is None
    assert hosts.window(other, START) == FIRST_WINDOW


@pytest.mark.parametrize("total", [1, 2, 4, 5])
def test_a_process_with_few_places_serves_all_the_same(total: int) -> None:
    choice = share_out(
        [waiting(1, space=1)], taken_slots=TakenSlots(), limits=Limits(total, 8), hosts=Hosts(), now=START
    )
    assert len(choice.taken) == 1


async def test_work_at_a_silent_host_is_looked_up_only_where_it_can_be_said_why_it_waits() -> None:
    hosts = Hosts()
    fall_silent(hosts, 10)
    assert Slots(Limits(4, 1), hosts).full_peers(START) == [PEER]
    assert Slots(Limits(4, 1), hosts, shows_pauses=True).full_peers(START) == []
    assert Slots(Limits(4, 1), hosts).full_peers(START + MAX_PAUSE) == []
    hosts.answered(PEER)
    assert hosts.paused(START) == []


async def test_slots_are_crowded_while_work_waits_for_them() -> None:
    slots, ended = Slots(Limits(TOTAL, 8), proven(1)), asyncio.Event()

    async def work() -> None:
        await ended.wait()

    due = backlog(TOTAL, space=1)
    slots.note_waiting(due[:1])
    assert not slots.crowded, "slots are free"
    for one in due[: TOTAL - TOTAL // 5]:
        slots.start(one, work())
    slots.note_waiting(due)
    assert slots.crowded
    slots.note_waiting([*due, *backlog(1, space=2)])
    assert not slots.crowded, "the reserve is free for the other workspace"
    slots.note_waiting([])
    assert not slots.crowded, "nothing waits"
    ended.set()
    await slots.finish()
