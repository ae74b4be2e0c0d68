from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from regie_chassis.paging import fitting


@given(st.lists(st.integers(0, 100), max_size=30), st.integers(1, 20), st.integers(1, 300))
def test_an_answer_holds_as_many_as_fit_and_always_one(sizes: list[int], limit: int, max_bytes: int) -> None:
    count = fitting(sizes, limit=limit, max_bytes=max_bytes)
    assert count <= limit
    assert count >= bool(sizes)
    assert count <= 1 or sum(sizes[:count]) <= max_bytes
    if 0 < count < min(limit, len(sizes)):
        assert sum(sizes[: count + 1]) > max_bytes
