"""A workspace's calls that may take long."""

from __future__ import annotations

import pytest
from regie_chassis.ids import new_id
from regie_publisher.turns import TooManyConnects, Turns


def test_a_workspace_that_has_enough_under_way_is_told_so_and_no_other() -> None:
    turns, mine, other = Turns(2, TooManyConnects), new_id(), new_id()
    with turns.take(mine), turns.take(mine):
        with pytest.raises(TooManyConnects) as refused, turns.take(mine):
            pass
        assert refused.value.http_status == 429
        with turns.take(other):
            pass
    with turns.take(mine):
        pass


def test_a_call_that_fails_gives_its_turn_back() -> None:
    turns, mine = Turns(1, TooManyConnects), new_id()
    for _ in range(3):
        with pytest.raises(RuntimeError), turns.take(mine):
            raise RuntimeError
