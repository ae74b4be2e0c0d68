"""Record keys: sortable, well formed, never twice."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from regie_networks.bluesky.tids import LATEST_MICROSECOND, TidClock, encode

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
WELL_FORMED = re.compile(r"[234567ab][234567abcdefghijklmnopqrstuvwxyz]{12}")

times = st.integers(0, LATEST_MICROSECOND)
clock_ids = st.integers(0, 1023)


@given(times, clock_ids)
def test_a_key_is_thirteen_letters_of_the_alphabet(microseconds: int, clock_id: int) -> None:
    assert WELL_FORMED.fullmatch(encode(microseconds, clock_id))


@given(st.tuples(times, clock_ids), st.tuples(times, clock_ids))
def test_keys_sort_as_their_times_do(one: tuple[int, int], other: tuple[int, int]) -> None:
    assert (one < other) == (encode(*one) < encode(*other))


def test_a_known_time_has_its_known_key() -> None:
    assert encode(0, 0) == "2222222222222"
    assert encode(1, 0) == "2222222222322"
    assert encode(LATEST_MICROSECOND, 1023) == "bzzzzzzzzzzzz"


@pytest.mark.parametrize("microseconds", [-1, LATEST_MICROSECOND + 1])
def test_a_time_that_no_key_can_hold_is_refused(microseconds: int) -> None:
    with pytest.raises(ValueError, match="1970"):
        encode(microseconds, 0)


def test_keys_rise_while_the_clock_stands_still_and_falls_back() -> None:
    clock = TidClock()
    moments = [NOW, NOW, NOW - timedelta(hours=1), NOW, NOW + timedelta(seconds=1), NOW]
    keys = [clock.next_tid(moment) for moment in moments]
    assert all(earlier < later for earlier, later in pairwise(keys))


def test_threads_never_get_the_same_key() -> None:
    clock = TidClock()
    with ThreadPoolExecutor(8) as pool:
        keys = list(pool.map(lambda _: clock.next_tid(NOW), range(5000)))
    assert len(set(keys)) == len(keys)
