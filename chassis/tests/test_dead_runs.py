from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from regie_chassis.events.dead_runs import DeadRuns

LIMIT = 5
NAMES = st.sampled_from(["a", "b", "c"])


def run_of(runs: DeadRuns, *workspaces: str) -> list[bool]:
    return [runs.died(workspace) for workspace in workspaces]


def test_a_run_over_several_workspaces_stops() -> None:
    assert run_of(DeadRuns(LIMIT), "a", "b", "a", "a", "a") == [False, False, False, False, True]


def test_a_run_of_the_only_workspace_that_is_known_stops() -> None:
    runs = DeadRuns(LIMIT)
    runs.handled(["a"])
    assert run_of(runs, *"aaaaa")[-1]


def test_a_run_of_one_workspace_among_several_never_stops() -> None:
    runs = DeadRuns(LIMIT)
    runs.handled(["b"])
    assert not any(run_of(runs, *"a" * 100))
    assert runs.died("b")  # now it spans workspaces


@given(steps=st.lists(st.tuples(st.booleans(), NAMES), max_size=60))
def test_an_event_that_was_handled_ends_every_run(steps: list[tuple[bool, str]]) -> None:
    runs, since = DeadRuns(LIMIT), list[str]()
    for handled, workspace in steps:
        if handled:
            runs.handled([workspace])
            since.clear()
        else:
            since.append(workspace)
            assert not runs.died(workspace) or len(since) >= LIMIT
