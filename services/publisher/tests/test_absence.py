"""The one rule: a call that could become a second post is never repeated, whenever the first one lands."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st
from regie_local.testing.clock import START
from regie_networks.absence import QUIET, Absence, Repeat
from regie_publisher.deliveries.absence import Doubt, Verdict, may_repeat, rule
from regie_publisher.settings import PublisherSettings

SECOND = timedelta(seconds=1)
QUIETS = st.integers(1, 600).map(lambda seconds: seconds * SECOND)


@st.composite
def absences(draw: st.DrawFn) -> Absence:
    quiet = draw(QUIETS)
    return Absence(
        draw(st.sampled_from(list(Repeat))),
        quiet=quiet,
        looks=draw(st.integers(1, 4)),
        settle=quiet / 4,
        key_life=timedelta(hours=1),
    )


@dataclass(frozen=True, slots=True)
class End:
    """How a run of looks ended: the verdict, when, and after how many looks."""

    verdict: Verdict
    time: datetime
    looks: int


def look_until_the_end(absence: Absence, delays: list[int], *, wanted: bool = True) -> End:
    """Looks at each time of the rule, late by so many seconds, and sees nothing."""
    time = START + 2 * SECOND
    for looks in range(1, 200):
        time += (delays[looks - 1] if looks <= len(delays) else 0) * SECOND
        ruling = rule(absence, Doubt(START, START - 60 * SECOND, looks), time, wanted=wanted)
        if ruling.verdict is not Verdict.LOOKUP:
            return End(ruling.verdict, time, looks)
        assert ruling.time is not None
        assert ruling.time > time, "a look that leads nowhere is not made again at once"
        time = ruling.time
    raise AssertionError("looks have no end")


@given(absence=absences(), delays=st.lists(st.integers(0, 100), max_size=8), wanted=st.booleans())
def test_an_absence_is_proven_only_after_the_quiet_time_and_by_enough_looks(
    absence: Absence, delays: list[int], wanted: bool
) -> None:
    end = look_until_the_end(absence, delays, wanted=wanted)
    if end.verdict is Verdict.PROVEN:
        assert end.looks >= absence.looks
        assert end.time >= START + absence.quiet, "whatever could land has landed before this look began"
    if not wanted:
        assert end.verdict in (Verdict.PROVEN, Verdict.PERSON), "to say that it is not there takes a proof"


@given(absence=absences(), delays=st.lists(st.integers(0, 100), max_size=8))
def test_a_call_is_repeated_unproven_only_under_a_key(absence: Absence, delays: list[int]) -> None:
    end = look_until_the_end(absence, delays)
    if end.verdict is Verdict.REPEAT:
        assert absence.repeat in (Repeat.AT_ONCE, Repeat.UNDER_KEY)
        if absence.repeat is Repeat.UNDER_KEY:
            assert end.time >= START + absence.settle, "never two calls of one key at the same time"


@given(absence=absences(), wait=st.integers(0, 10_000), looks=st.integers(0, 9))
def test_a_key_is_trusted_within_its_life_only(absence: Absence, wait: int, looks: int) -> None:
    now = START + wait * SECOND
    doubt = Doubt(START, START - 600 * SECOND, looks)
    if may_repeat(absence, doubt, now) and absence.repeat is Repeat.UNDER_KEY:
        assert now < doubt.first + absence.key_life


@given(absence=absences())
def test_looks_come_to_an_end_soon_after_the_quiet_time(absence: Absence) -> None:
    end = look_until_the_end(absence, [])
    assert end.time <= START + 2 * absence.quiet + 5 * SECOND


def test_the_setting_of_the_quiet_time_has_the_contracts_default() -> None:
    assert PublisherSettings.model_fields["quiet_seconds"].default == QUIET.total_seconds()


def test_a_network_that_cannot_be_read_is_for_a_person_however_late() -> None:
    absence = Absence(Repeat.BY_PERSON)
    assert rule(absence, Doubt(START, START, 99), START + timedelta(days=9)).verdict is Verdict.PERSON


def test_a_key_of_our_own_repeats_with_the_first_look() -> None:
    assert look_until_the_end(Absence(Repeat.AT_ONCE), []) == End(Verdict.REPEAT, START + 2 * SECOND, 1)


def test_without_a_key_the_looks_are_few_and_the_last_is_right_at_the_end_of_the_quiet_time() -> None:
    assert look_until_the_end(Absence(Repeat.AFTER_QUIET), []) == End(Verdict.PROVEN, START + 120 * SECOND, 5)
