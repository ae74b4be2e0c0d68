"""The table of a post's life, and the sum of its deliveries."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from regie_scheduler.posts.states import (
    FINAL_STATES,
    NOT_REACHED,
    TRANSITIONS,
    Action,
    PostState,
    PostStateConflict,
    SegmentState,
    VariantState,
    after,
    has_ended,
    roll_up,
    segment_states,
    state_for_readers,
    supersedes,
)

variant_states = st.sampled_from(list(VariantState))
ENDED = [state for state in VariantState if has_ended(state)]
GONE = {PostState.DISPATCHED, PostState.EXPIRED, *FINAL_STATES}


@given(st.sampled_from(list(Action)), st.sampled_from(list(PostState)))
def test_every_action_either_leads_on_or_says_from_where_it_could(action: Action, state: PostState) -> None:
    if state in TRANSITIONS[action]:
        assert after(action, state) is TRANSITIONS[action][state]
    else:
        with pytest.raises(PostStateConflict) as caught:
            after(action, state)
        assert str(state) in caught.value.message
        assert all(allowed in caught.value.message for allowed in set(TRANSITIONS[action]) - NOT_REACHED)
        assert not any(state is not never and never in caught.value.message for never in NOT_REACHED)


@given(st.lists(st.sampled_from(list(Action)), max_size=12))
def test_what_has_left_or_ended_is_never_planned_again(actions: list[Action]) -> None:
    state = PostState.DRAFT
    for action in actions:
        following = TRANSITIONS[action].get(state, state)
        assert state not in GONE or following is state
        state = following


def test_every_state_but_the_publishers_can_be_reached_by_actions() -> None:
    reached, seen = {PostState.DRAFT}, set[PostState]()
    while reached != seen:
        seen = set(reached)
        reached |= {table[state] for table in TRANSITIONS.values() for state in seen if state in table}
    assert reached == set(PostState) - {PostState.PUBLISHED, PostState.PARTIALLY_PUBLISHED, PostState.FAILED}


def test_editing_an_approved_post_returns_it_to_review() -> None:
    assert after(Action.EDIT, PostState.APPROVED) is PostState.IN_REVIEW


@given(st.lists(variant_states, min_size=1, max_size=50))
def test_a_post_ends_exactly_when_its_last_delivery_does(states: list[VariantState]) -> None:
    ended = roll_up(states) in FINAL_STATES
    assert ended == all(has_ended(state) for state in states)
    assert ended or roll_up(states) is PostState.DISPATCHED


@given(st.lists(st.sampled_from(ENDED), min_size=1, max_size=50))
def test_the_end_of_a_post_is_the_sum_of_its_deliveries(states: list[VariantState]) -> None:
    out = states.count(VariantState.PUBLISHED)
    end = roll_up(states)
    assert (end is PostState.PUBLISHED) == (out == len(states))
    assert (end is PostState.PARTIALLY_PUBLISHED) == (0 < out < len(states))
    assert (end is PostState.CANCELLED) == (set(states) == {VariantState.CANCELLED})
    assert (end is PostState.FAILED) == (out == 0 and VariantState.FAILED in states)


@given(st.lists(variant_states, max_size=20), st.randoms())
def test_the_order_in_which_news_comes_does_not_change_whether_it_is_out(
    reported: list[VariantState], random: Random
) -> None:
    def fold(states: list[VariantState]) -> VariantState:
        current = VariantState.PLANNED
        for state in states:
            current = state if supersedes(state, current) else current
        return current

    shuffled = list(reported)
    random.shuffle(shuffled)
    first, second = fold(reported), fold(shuffled)
    assert (
        (first is VariantState.PUBLISHED) == (VariantState.PUBLISHED in reported) == (second is VariantState.PUBLISHED)
    )
    assert has_ended(first) == has_ended(second)


@given(variant_states)
def test_nothing_supersedes_published_and_no_news_supersedes_itself(state: VariantState) -> None:
    assert not supersedes(state, VariantState.PUBLISHED)
    assert not supersedes(state, state)


def test_an_unknown_delivery_may_turn_out_published_or_failed() -> None:
    assert supersedes(VariantState.PUBLISHED, VariantState.UNKNOWN)
    assert supersedes(VariantState.FAILED, VariantState.UNKNOWN)
    assert supersedes(VariantState.PUBLISHED, VariantState.FAILED)
    assert not supersedes(VariantState.UNKNOWN, VariantState.FAILED)


def test_a_variant_is_pending_from_the_moment_its_post_is_dispatched() -> None:
    assert state_for_readers(VariantState.PLANNED, PostState.SCHEDULED) is VariantState.PLANNED
    assert state_for_readers(VariantState.PLANNED, PostState.DISPATCHED) is VariantState.PENDING
    assert state_for_readers(VariantState.PLANNED, PostState.MISSED) is VariantState.MISSED
    assert state_for_readers(VariantState.UNKNOWN, PostState.DISPATCHED) is VariantState.UNKNOWN


@given(st.sampled_from(list(VariantState)), st.integers(0, 5), st.integers(1, 5))
def test_every_part_of_a_variant_has_a_state(variant: VariantState, public: int, count: int) -> None:
    states = segment_states(variant, public=min(public, count), count=count)
    assert len(states) == count
    assert states.count(SegmentState.PUBLISHED) == (0 if variant is VariantState.PLANNED else min(public, count))


@given(st.lists(st.sampled_from(list(VariantState)), min_size=1, max_size=5))
def test_a_post_of_which_a_part_is_out_never_counts_as_failed(states: list[VariantState]) -> None:
    assert roll_up(states, parts_out=True) not in {PostState.FAILED, PostState.MISSED, PostState.CANCELLED}
