"""A workspace's calls that may take long."""

from __future__ import annotations

import pytest
from regie_chassis.boundary.ids import new_id
from regie_publisher.fairness.concurrency import ConcurrencyLimit, TooManyConnects


def test_a_workspace_that_has_enough_under_way_is_told_so_and_no_other() -> None:
    turns, mine, other = ConcurrencyLimit(2, TooManyConnects), new_id(), new_id()
    with turns.hold(mine), turns.hold(mine):
        with pytest.raises(TooManyConnects) as refused, turns.hold(mine):
            pass
        assert refused.value.http_status == 429
        with turns.hold(other):
            pass
    with turns.hold(mine):
        pass


def test_a_call_that_fails_gives_its_turn_back() -> None:
    turns, mine = ConcurrencyLimit(1, TooManyConnects), new_id()
    for _ in range(3):
        with pytest.raises(RuntimeError), turns.hold(mine):
            raise RuntimeError
