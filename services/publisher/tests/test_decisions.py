"""What answers mean: the rule that only a proven lack of effect leads back to pending."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from functools import partial

from hypothesis import given
from hypothesis import strategies as st
from regie_chassis.ids import new_id
from regie_local.testing.clock import START
from regie_networks.absence import QUIET, Absence, Repeat
from regie_networks.draft import Processing, Remote
from regie_networks.errors import FailureKind, Inconclusive, NotSent, OutcomeUnknown, Refused
from regie_publisher.deliveries import judging
from regie_publisher.deliveries.delivery import THREAD_GRACE, Cause, Held, State

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
def helds(draw: st.DrawFn) -> Held:
    parts = draw(st.integers(1, 4))
    done = draw(st.integers(0, parts - 1))
    return Held(
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
        attempt=draw(st.integers(1, 30)),
        tries=draw(st.integers(1, 30)),
        finds=draw(st.integers(0, 10)),
        handles={},
        remotes=tuple(Remote(str(part), "") for part in range(done)),
        processing_handle="",
        call_end=None,
        quiet_end=None,
        looks=0,
    )


@given(error=PROOF_OF_NOTHING, held=helds())
def test_an_error_that_proves_nothing_after_the_call_is_always_unknown(error: Exception, held: Held) -> None:
    outcome = judging.after_publish(error, held, START, version=1, quiet=QUIET)
    assert outcome.state is State.UNKNOWN
    assert outcome.act_time is not None
    assert outcome.act_time > START


@given(error=ANY_ERROR, held=helds(), version=st.integers(1, 9))
def test_before_the_call_nothing_is_ever_unknown(error: Exception, held: Held, version: int) -> None:
    assert judging.before_publish(error, held, START, version=version).state in (State.PENDING, State.FAILED)


@given(error=ANY_ERROR, held=helds())
def test_whatever_waits_has_a_time_within_its_deadline_and_whatever_fails_has_a_kind(
    error: Exception, held: Held
) -> None:
    deadline = held.miss_time + (THREAD_GRACE if held.remotes else timedelta(0))
    for judge in (judging.before_publish, partial(judging.after_publish, quiet=QUIET)):
        outcome = judge(error, held, START, version=1)
        if outcome.state is State.PENDING:
            assert outcome.act_time is not None
            assert START <= outcome.act_time < deadline
        elif outcome.state is State.FAILED:
            assert outcome.failure_kind is not None
            assert judging.source_of(outcome.failure_kind) in ("user", "platform", "system")
            assert outcome.act_time is None


@given(error=ANY_ERROR, held=helds())
def test_a_find_that_fails_never_permits_another_attempt(error: Exception, held: Held) -> None:
    outcome = judging.after_find(error, held, START, version=1)
    assert outcome.state is State.UNKNOWN
    assert outcome.needs_person == (outcome.act_time is None)


@given(held=helds())
def test_attempts_end_even_where_absence_is_proven_every_time(held: Held) -> None:
    later = START + QUIET
    proven = replace(held, call_end=START, looks=1)
    outcome = judging.absent(proven, Absence(Repeat.AFTER_QUIET), later)
    assert outcome.proven
    assert (outcome.state is State.FAILED) == (held.tries >= judging.TRIES.max_attempts)


@given(held=helds())
def test_a_delivery_is_published_with_its_last_part_and_not_before(held: Held) -> None:
    done = len(held.remotes)
    outcome = judging.out(Remote("r", "u"), held, START, done=done, cause=Cause.WORKER, quiet=QUIET)
    assert (outcome.state is State.PUBLISHED) == (done + 1 == len(held.segment_keys))
    waits = judging.out(Processing("h", timedelta(days=9)), held, START, done=done, cause=Cause.WORKER, quiet=QUIET)
    assert waits.state is State.PROCESSING
    assert waits.act_time == START + judging.LONGEST_CHECK


def waits_of(held: Held, told: timedelta, rounds: int) -> list[timedelta]:
    """Plays a network that says the same wait to each try; the delivery is taken again when its time comes."""
    now, waits = START, []
    for _ in range(rounds):
        error = Refused(FailureKind.RATE_LIMITED, "slow down", retry_after=told)
        outcome = judging.after_publish(error, held, now, version=1, quiet=QUIET)
        assert outcome.state is State.PENDING
        assert outcome.act_time is not None
        assert outcome.tries is not None
        assert outcome.block_until is not None
        assert outcome.block_until >= outcome.act_time, "the channel waits as well"
        waits.append(outcome.act_time - now)
        now = outcome.act_time
        held = replace(held, tries=outcome.tries + 1, attempt=held.attempt + 1)
    return waits


@given(held=helds(), told=st.timedeltas(timedelta(0), timedelta(seconds=2)))
def test_a_wait_that_is_hardly_any_grows_and_never_ends_the_post(held: Held, told: timedelta) -> None:
    patient = replace(held, tries=1, miss_time=START + timedelta(days=9))
    waits = waits_of(patient, told, 40)
    assert sum(waits, timedelta()) > timedelta(minutes=20)
    assert min(waits[12:]) >= timedelta(seconds=20)


@given(held=helds())
def test_a_wait_that_is_told_is_kept_to_and_is_no_try(held: Held) -> None:
    patient = replace(held, tries=1, miss_time=START + timedelta(days=9))
    assert set(waits_of(patient, timedelta(seconds=30), 10)) == {timedelta(seconds=30)}


@given(held=helds())
def test_a_post_in_work_is_asked_about_less_and_less_often(held: Held) -> None:
    asked = replace(held, state=State.PROCESSING, finds=0)
    now, pauses = START, []
    for _ in range(200):
        answer = Processing("handle", timedelta(seconds=1))
        outcome = judging.out(answer, asked, now, done=len(held.remotes), cause=Cause.CHECK, quiet=QUIET)
        assert outcome.act_time is not None
        pauses.append(outcome.act_time - now)
        now, asked = outcome.act_time, replace(asked, finds=outcome.finds)
    assert pauses == sorted(pauses)
    assert pauses[0] < timedelta(seconds=2) < timedelta(seconds=30) < pauses[-1]


@given(held=helds())
def test_a_look_that_was_cut_off_says_so_and_blames_nobody_else(held: Held) -> None:
    outcome = judging.after_find(TimeoutError(), replace(held, state=State.UNKNOWN), START, version=1)
    assert outcome.message == "the network did not answer in time"


@given(held=helds())
def test_looks_that_are_told_hardly_any_wait_come_to_an_end(held: Held) -> None:
    looked, rounds = replace(held, state=State.UNKNOWN, finds=0, call_end=START), 0
    now = START
    while True:
        error = Refused(FailureKind.RATE_LIMITED, "slow down", retry_after=timedelta(0))
        outcome = judging.after_find(error, looked, now, version=1)
        rounds += 1
        if outcome.needs_person:
            break
        assert outcome.act_time is not None
        now, looked = outcome.act_time, replace(looked, finds=outcome.finds)
    assert rounds == len(judging.FIND_AGAIN) + 1
