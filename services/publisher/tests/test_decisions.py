"""The meaning of responses: only a proven lack of effect leads back to pending."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from functools import partial

from hypothesis import given
from hypothesis import strategies as st
from regie_chassis.boundary.ids import new_id
from regie_local.testing.clock import START
from regie_networks.absence import QUIET, Absence, Repeat
from regie_networks.draft import Processing, Remote
from regie_networks.errors import FailureKind, Inconclusive, NotSent, OutcomeUnknown, Refused
from regie_publisher.deliveries import decisions, lookup_decisions
from regie_publisher.deliveries.delivery import THREAD_GRACE, Cause, ClaimedDelivery, State
from regie_publisher.deliveries.events import SOURCES

KINDS = st.sampled_from(list(FailureKind))
WAITS = st.one_of(st.none(), st.timedeltas(timedelta(0), timedelta(days=1)))
PROOF_OF_NOTHING = st.sampled_from(
    [
        OutcomeUnknown("lost"),
        Inconclusive("?"),
        TimeoutError(),
        RuntimeError("ours"),
        OSError("pipe"),
        ValueError("body"),
    ]
)
REFUSALS = st.builds(lambda kind, wait: Refused(kind, "no", retry_after=wait), KINDS, WAITS)
ANY_ERROR = st.one_of(PROOF_OF_NOTHING, REFUSALS, st.just(NotSent("no connection")))


@st.composite
def helds(draw: st.DrawFn) -> ClaimedDelivery:
    parts = draw(st.integers(1, 4))
    done = draw(st.integers(0, parts - 1))
    return ClaimedDelivery(
        id=new_id(),
        workspace_id=new_id(),
        post_id=new_id(),
        channel_id=new_id(),
        revision=1,
        network="fake",
        state=State.CLAIMED,
        content=b"",
        segment_keys=tuple(f"key{part}" for part in range(parts)),
        compose_time=START,
        due_time=START,
        miss_time=START + timedelta(minutes=10),
        traceparent="",
        fence=1,
        attempt_number=draw(st.integers(1, 30)),
        consecutive_attempts=draw(st.integers(1, 30)),
        lookups=draw(st.integers(0, 10)),
        handles={},
        remotes=tuple(Remote(str(part), "") for part in range(done)),
        processing_handle="",
        call_end=None,
        quiet_end=None,
        empty_lookups=0,
    )


@given(error=PROOF_OF_NOTHING, held=helds())
def test_an_error_that_proves_nothing_after_the_call_is_always_unknown(error: Exception, held: ClaimedDelivery) -> None:
    outcome = decisions.decide_publish_error(error, held, START, version=1, quiet=QUIET)
    assert outcome.state is State.UNKNOWN
    assert outcome.next_action_time is not None
    assert outcome.next_action_time > START


@given(error=ANY_ERROR, held=helds(), version=st.integers(1, 9))
def test_before_the_call_nothing_is_ever_unknown(error: Exception, held: ClaimedDelivery, version: int) -> None:
    assert decisions.decide_preparation_error(error, held, START, version=version).state in (
        State.PENDING,
        State.FAILED,
    )


@given(error=ANY_ERROR, held=helds())
def test_whatever_waits_has_a_time_within_its_deadline_and_whatever_fails_has_a_kind(
    error: Exception, held: ClaimedDelivery
) -> None:
    deadline = held.miss_time + (THREAD_GRACE if held.remotes else timedelta(0))
    for judge in (decisions.decide_preparation_error, partial(decisions.decide_publish_error, quiet=QUIET)):
        outcome = judge(error, held, START, version=1)
        if outcome.state is State.PENDING:
            assert outcome.next_action_time is not None
            assert START <= outcome.next_action_time < deadline
        elif outcome.state is State.FAILED:
            assert outcome.failure_kind is not None
            assert outcome.failure_kind in SOURCES
            assert outcome.next_action_time is None


@given(error=ANY_ERROR, held=helds())
def test_a_find_that_fails_never_permits_another_attempt(error: Exception, held: ClaimedDelivery) -> None:
    outcome = lookup_decisions.decide_find_error(error, held, START, version=1)
    assert outcome.state is State.UNKNOWN
    assert outcome.needs_person == (outcome.next_action_time is None)


@given(held=helds())
def test_attempts_end_even_where_absence_is_proven_every_time(held: ClaimedDelivery) -> None:
    later = START + QUIET
    proven = replace(held, call_end=START, empty_lookups=1)
    outcome = lookup_decisions.decide_absent(proven, Absence(Repeat.AFTER_QUIET), later)
    assert outcome.proven
    assert (outcome.state is State.FAILED) == (held.consecutive_attempts >= decisions.RETRY_POLICY.max_attempts)


@given(held=helds())
def test_a_delivery_is_published_with_its_last_part_and_not_before(held: ClaimedDelivery) -> None:
    done = len(held.remotes)
    outcome = decisions.decide_published(Remote("r", "u"), held, START, done=done, cause=Cause.WORKER, quiet=QUIET)
    assert (outcome.state is State.PUBLISHED) == (done + 1 == len(held.segment_keys))
    waits = decisions.decide_published(
        Processing("h", timedelta(days=9)), held, START, done=done, cause=Cause.WORKER, quiet=QUIET
    )
    assert waits.state is State.PROCESSING
    assert waits.next_action_time == START + decisions.MAX_CHECK_PAUSE


def waits_of(held: ClaimedDelivery, requested_wait: timedelta, rounds: int) -> list[timedelta]:
    """Plays a network that asks for the same wait at each try; the delivery is claimed again when its time comes."""
    now, waits = START, []
    for _ in range(rounds):
        error = Refused(FailureKind.RATE_LIMITED, "slow down", retry_after=requested_wait)
        outcome = decisions.decide_publish_error(error, held, now, version=1, quiet=QUIET)
        assert outcome.state is State.PENDING
        assert outcome.next_action_time is not None
        assert outcome.consecutive_attempts is not None
        assert outcome.block_until is not None
        assert outcome.block_until >= outcome.next_action_time, "the channel waits as well"
        waits.append(outcome.next_action_time - now)
        now = outcome.next_action_time
        held = replace(
            held, consecutive_attempts=outcome.consecutive_attempts + 1, attempt_number=held.attempt_number + 1
        )
    return waits


@given(held=helds(), requested_wait=st.timedeltas(timedelta(0), timedelta(seconds=2)))
def test_a_wait_that_is_hardly_any_grows_and_never_ends_the_post(
    held: ClaimedDelivery, requested_wait: timedelta
) -> None:
    patient = replace(held, consecutive_attempts=1, miss_time=START + timedelta(days=9))
    waits = waits_of(patient, requested_wait, 40)
    assert sum(waits, timedelta()) > timedelta(minutes=20)
    assert min(waits[12:]) >= timedelta(seconds=20)


@given(held=helds())
def test_a_wait_that_is_told_is_kept_to_and_is_no_try(held: ClaimedDelivery) -> None:
    patient = replace(held, consecutive_attempts=1, miss_time=START + timedelta(days=9))
    assert set(waits_of(patient, timedelta(seconds=30), 10)) == {timedelta(seconds=30)}


@given(held=helds())
def test_a_post_in_work_is_asked_about_less_and_less_often(held: ClaimedDelivery) -> None:
    delivery = replace(held, state=State.PROCESSING, lookups=0)
    now, pauses = START, []
    for _ in range(200):
        answer = Processing("handle", timedelta(seconds=1))
        outcome = decisions.decide_published(
            answer, delivery, now, done=len(held.remotes), cause=Cause.CHECK, quiet=QUIET
        )
        assert outcome.next_action_time is not None
        pauses.append(outcome.next_action_time - now)
        now, delivery = outcome.next_action_time, replace(delivery, lookups=outcome.lookups)
    assert pauses == sorted(pauses)
    assert pauses[0] < timedelta(seconds=2) < timedelta(seconds=30) < pauses[-1]


@given(held=helds())
def test_a_look_that_was_cut_off_says_so_and_blames_nobody_else(held: ClaimedDelivery) -> None:
    outcome = lookup_decisions.decide_find_error(TimeoutError(), replace(held, state=State.UNKNOWN), START, version=1)
    assert outcome.message == "the network did not answer in time"


@given(held=helds())
def test_looks_that_are_told_hardly_any_wait_come_to_an_end(held: ClaimedDelivery) -> None:
    looked, rounds = replace(held, state=State.UNKNOWN, lookups=0, call_end=START), 0
    now = START
    while True:
        error = Refused(FailureKind.RATE_LIMITED, "slow down", retry_after=timedelta(0))
        outcome = lookup_decisions.decide_find_error(error, looked, now, version=1)
        rounds += 1
        if outcome.needs_person:
            break
        assert outcome.next_action_time is not None
        now, looked = outcome.next_action_time, replace(looked, lookups=outcome.lookups)
    assert rounds == len(lookup_decisions.LOOKUP_PAUSES) + 1
