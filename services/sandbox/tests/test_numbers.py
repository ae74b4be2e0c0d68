"""The made-up numbers."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from regie_sandbox.numbers import numbers

POST_IDS = st.integers(1_000_001, 9_999_999).map(str)


@given(POST_IDS, st.lists(st.floats(0, 10_000_000), min_size=2, max_size=6).map(sorted))
def test_the_numbers_never_fall(post_id: str, ages: list[float]) -> None:
    seen = [numbers(post_id, age) for age in ages]
    for earlier, later in pairwise(seen):
        assert earlier.likes <= later.likes
        assert earlier.replies <= later.replies
        assert earlier.reposts <= later.reposts
        assert earlier.impressions <= later.impressions
        assert set(earlier.engagements) <= set(later.engagements)


@given(POST_IDS)
def test_something_is_seen_within_two_seconds(post_id: str) -> None:
    now = numbers(post_id, 2.0)
    assert min(now.likes, now.replies, now.reposts) >= 1
    assert now.impressions > now.likes
    assert {one.kind for one in now.engagements} == {"like", "reply"}
    assert now == numbers(post_id, 2.0)


@given(POST_IDS, st.floats(-5, 1e9))
def test_the_people_are_few_and_react_once_in_a_kind(post_id: str, age: float) -> None:
    people = [(one.actor_id, one.kind) for one in numbers(post_id, age).engagements]
    assert len(people) <= 5
    assert len(set(people)) == len(people)
