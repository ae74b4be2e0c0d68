"""What an answer means for a delivery: pure rules, no database, no network.

The one question behind all of them is whether a call may have had an effect, or may still have one. Where it may, the
only way on is `unknown`; every other way on is open. When that ends is the rule in `absence.py`.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from regie_chassis.retry import RetryPolicy
from regie_networks.absence import Absence
from regie_networks.draft import Processing, Remote
from regie_networks.errors import (
    ConnectorError,
    FailureKind,
    Inconclusive,
    NotSent,
    OutcomeUnknown,
    Refused,
    Unacceptable,
)

from regie_publisher.deliveries.absence import Doubt, Verdict, may_repeat, rule
from regie_publisher.deliveries.delivery import FIND_DELAY, THREAD_GRACE, Cause, Held, Outcome, State
from regie_publisher.standing import MAX_FIRST_BLOCK

TRIES = RetryPolicy(max_attempts=20, base=timedelta(milliseconds=500), cap=timedelta(minutes=1))
PREPARE_TRIES = 8
INTERNAL_TRIES = 3
FIND_AGAIN = (
    timedelta(seconds=2),
    timedelta(seconds=10),
    timedelta(minutes=1),
    timedelta(minutes=5),
    timedelta(minutes=15),
    timedelta(hours=1),
)
"""After so many finds without proof, a person is asked."""
LEAST_TOLD = timedelta(seconds=10)
"""A wait that a network asks for counts as told from here on; shorter ones grow as those after failures do."""
LONGEST_CHECK = timedelta(minutes=5)
CHECK_GROWTH = 5
"""After so many checks of a post that is being processed, the pause is as long again as the network asked for."""
PROCESSING_LIMIT = timedelta(hours=24)
LONGEST_WAIT = timedelta(hours=24)
"""A network that tells every look to wait is heeded so long; then a person is asked."""

SOURCES = {
    FailureKind.AUTH_EXPIRED: "user",
    FailureKind.CONTENT_REJECTED: "user",
    FailureKind.DUPLICATE_CONTENT: "user",
    FailureKind.MEDIA_REJECTED: "user",
    FailureKind.UNSUPPORTED: "user",
    FailureKind.RATE_LIMITED: "platform",
    FailureKind.NETWORK_UNREACHABLE: "platform",
    FailureKind.PLATFORM_ERROR: "platform",
    FailureKind.INTERNAL: "system",
}

_SILENT = (Cause.TIMEOUT, Cause.NO_ANSWER, Cause.NOT_SENT, Cause.PREPARE)
"""Causes of outcomes that follow a call without a usable answer."""


def source_of(kind: FailureKind) -> str:
    """Returns who has to act on a failure: user, platform or system."""
    return SOURCES[kind]


def failed(kind: FailureKind, message: str, *, cause: Cause, expired_version: int | None = None) -> Outcome:
    """Returns the end of the way for a delivery that will not be on the network."""
    return Outcome(State.FAILED, cause, message=message, failure_kind=kind, expired_version=expired_version)


def unknown(message: str, now: datetime, *, cause: Cause, quiet: timedelta) -> Outcome:
    """Returns what follows a call that ended now and may have had an effect, or still have it within `quiet`."""
    return Outcome(
        State.UNKNOWN,
        cause,
        act_time=now + FIND_DELAY,
        message=message,
        call_end=now,
        quiet_end=now + quiet,
        looks=0,
    )


def while_in_doubt(held: Held, outcome: Outcome, now: datetime) -> Outcome:
    """Returns the outcome as it may be told: while an earlier call may still land, nothing has failed."""
    if held.call_end is None or outcome.proven or outcome.state is not State.FAILED:
        return outcome
    return replace(
        outcome,
        state=State.UNKNOWN,
        act_time=now + FIND_DELAY,
        failure_kind=None,
        message=f"an earlier call may still take effect; sending again was refused: {outcome.message}"[:1000],
        announce=False,
    )


def before_publish(error: Exception, held: Held, now: datetime, *, version: int | None) -> Outcome:
    """Judges an error before the mutation was asked for: nothing is visible, so trying again is safe."""
    match error:
        case Refused():
            return _refused(error, held, now, version=version)
        case NotSent():
            return _again(held, now, str(error), kind=FailureKind.NETWORK_UNREACHABLE, cause=Cause.NOT_SENT)
        case OutcomeUnknown() | Inconclusive() | TimeoutError():
            message = str(error) or "the preparation took too long"
            return _again(held, now, message, kind=FailureKind.PLATFORM_ERROR, cause=Cause.PREPARE, limit=PREPARE_TRIES)
        case _:
            message = "something failed on our side before the call; it is logged under this trace"
            return _again(held, now, message, kind=FailureKind.INTERNAL, cause=Cause.INTERNAL, limit=INTERNAL_TRIES)


def after_publish(error: Exception, held: Held, now: datetime, *, version: int | None, quiet: timedelta) -> Outcome:
    """Judges an error of `publish` itself: whatever does not prove that nothing happened is unknown."""
    match error:
        case Refused():
            return _refused(error, held, now, version=version)
        case NotSent():
            return _again(held, now, str(error), kind=FailureKind.NETWORK_UNREACHABLE, cause=Cause.NOT_SENT)
        case TimeoutError():
            return unknown("the network did not answer in time", now, cause=Cause.TIMEOUT, quiet=quiet)
        case ConnectorError():
            return unknown(str(error), now, cause=Cause.NO_ANSWER, quiet=quiet)
        case _:
            message = "the call ended in an error of ours; it is logged under this trace"
            return unknown(message, now, cause=Cause.INTERNAL, quiet=quiet)


def out(
    answer: Remote | Processing, held: Held, now: datetime, *, done: int, cause: Cause, quiet: timedelta
) -> Outcome:
    """Judges an answer of `publish`, `check` or `find`. `done` counts the segments that were out before it."""
    if isinstance(answer, Processing):
        if now > held.miss_time + PROCESSING_LIMIT:
            return unknown("the network has been processing for too long", now, cause=cause, quiet=quiet)
        return Outcome(
            State.PROCESSING,
            cause,
            act_time=now + _check_pause(held, answer.check_after),
            processing_handle=answer.handle,
            finds=_checks(held),
            announce=held.state is not State.PROCESSING,
        )
    if done + 1 >= len(held.segment_keys):
        return Outcome(State.PUBLISHED, cause, remote=answer)
    return Outcome(State.PENDING, cause, act_time=now, remote=answer)


def after_check(error: Exception, held: Held, now: datetime, *, version: int | None, quiet: timedelta) -> Outcome:
    """Judges an error while asking about a segment that is being processed: a refusal of the post ends it."""
    if isinstance(error, Refused) and error.retry_after is None and error.kind is not FailureKind.AUTH_EXPIRED:
        return failed(error.kind, error.message, cause=Cause.CHECK)
    if now > held.miss_time + PROCESSING_LIMIT:
        return unknown(f"the network cannot be asked: {words_of(error)}", now, cause=Cause.CHECK, quiet=quiet)
    pause = error.retry_after if isinstance(error, Refused) and error.retry_after else LONGEST_CHECK / 10
    return Outcome(
        State.PROCESSING,
        Cause.CHECK,
        act_time=now + max(pause, _check_pause(held, pause)),
        message=words_of(error),
        processing_handle=held.processing_handle,
        finds=_checks(held),
        announce=False,
        expired_version=version if _expired(error) else None,
    )


def absent(held: Held, absence: Absence, look_time: datetime) -> Outcome:
    """Judges a look that began at `look_time` and came back empty, by the rule of `absence.py`.

    Leads to another attempt with the same keys where that is proven or made safe, a bounded number of times.
    """
    looks = held.looks + 1
    doubt = Doubt(end=held.call_end or look_time, first=held.compose_time, looks=looks)
    ruling = rule(absence, doubt, look_time, wanted=_is_wanted(held, look_time))
    quiet_end = doubt.end + absence.quiet
    match ruling.verdict:
        case Verdict.PROVEN:
            return _proven(held, look_time)
        case Verdict.REPEAT:
            return _repeated(held, look_time, looks, "it is not there yet")
        case Verdict.LOOK:
            message = f"it is not there yet; the call may still land until {quiet_end:%H:%M:%S} UTC"
            return Outcome(
                State.UNKNOWN,
                Cause.FIND,
                act_time=ruling.time,
                message=message,
                finds=held.finds,
                announce=False,
                call_end=doubt.end,
                quiet_end=quiet_end,
                looks=looks,
            )
        case Verdict.PERSON:
            message = "this network cannot be read; only a person can say whether it is there"
            return Outcome(State.UNKNOWN, Cause.FIND, message=message, finds=held.finds, needs_person=True, looks=looks)


def in_spite_of(error: Inconclusive, held: Held, absence: Absence, look_time: datetime) -> Outcome | None:
    """Judges a look that cannot tell whose a post is: under a key that is honoured, the answer to the same call can.

    Returns None where no call may be made.
    """
    doubt = Doubt(end=held.call_end or look_time, first=held.compose_time, looks=held.looks)
    if not _is_wanted(held, look_time) or not may_repeat(absence, doubt, look_time):
        return None
    return _repeated(held, look_time, held.looks, words_of(error))


def not_published(now: datetime) -> Outcome:
    """Returns what follows a person's word that it is not there, once nothing can land any more."""
    return Outcome(State.PENDING, Cause.PERSON, act_time=now, tries=0, proven=True)


def after_find(error: Exception, held: Held, now: datetime, *, version: int | None) -> Outcome:
    """Judges a look that says nothing: again later, and at last a person.

    To wait as the network says is no failure, and it holds for everything that is sent to the account as well.
    """
    waits = error.retry_after if isinstance(error, Refused) else None
    heeded = waits is not None and waits >= LEAST_TOLD and now < (held.call_end or now) + LONGEST_WAIT
    finds = held.finds if heeded else held.finds + 1
    expired_version = version if _expired(error) else None
    if finds > len(FIND_AGAIN):
        return Outcome(
            State.UNKNOWN,
            Cause.FIND,
            message=words_of(error),
            finds=finds,
            needs_person=True,
            expired_version=expired_version,
        )
    pause = FIND_AGAIN[max(finds - 1, 0)]
    limited = isinstance(error, Refused) and error.kind is FailureKind.RATE_LIMITED
    return Outcome(
        State.UNKNOWN,
        Cause.FIND,
        act_time=now + max(pause, waits or pause),
        message=words_of(error),
        finds=finds,
        announce=False,
        expired_version=expired_version,
        block_until=now + waits if limited and waits is not None else None,
    )


def was_answered(outcome: Outcome) -> bool | None:
    """Tells whether the network's host gave a usable answer to an attempt; None where it was not called."""
    if outcome.cause in _SILENT:
        return False
    if outcome.cause in (Cause.WORKER, Cause.REFUSED) and outcome.failure_kind is not FailureKind.UNSUPPORTED:
        return True
    return None


def _checks(held: Held) -> int:
    return held.finds + 1 if held.state is State.PROCESSING else 0


def _check_pause(held: Held, asked: timedelta) -> timedelta:
    return min(asked * (1 + _checks(held) / CHECK_GROWTH), LONGEST_CHECK)


def words_of(error: Exception) -> str:
    """Returns what may be told of an error: a connector's words are the network's, any other's stay in the log."""
    if isinstance(error, ConnectorError):
        return str(error)[:1000]
    if isinstance(error, TimeoutError):
        return "the network did not answer in time"
    return "something failed on our side; it is logged under this trace"


def _proven(held: Held, now: datetime) -> Outcome:
    message = "the network proves that it is not there"
    if held.tries >= TRIES.max_attempts:
        message = f"{message}, after {held.attempt} attempts"
        return replace(failed(FailureKind.PLATFORM_ERROR, message, cause=Cause.FIND), proven=True)
    then = now + TRIES.delay(max(held.tries, 1))
    return Outcome(State.PENDING, Cause.FIND, act_time=then, message=message, proven=True)


def _repeated(held: Held, now: datetime, looks: int, why: str) -> Outcome:
    then = now + TRIES.delay(max(held.tries, 1))
    message = f"{why}; sent again under the same key, which cannot make a second post"
    return Outcome(State.PENDING, Cause.FIND, act_time=then, message=message, looks=looks)


def _is_wanted(held: Held, now: datetime) -> bool:
    """False for a delivery that would not be sent again if its absence were proven; a begun thread is finished."""
    if held.tries >= TRIES.max_attempts:
        return False
    return bool(held.remotes) or (not held.cancelled and now < held.miss_time)


def _expired(error: Exception) -> bool:
    return isinstance(error, Refused) and error.kind is FailureKind.AUTH_EXPIRED


def _refused(error: Refused, held: Held, now: datetime, *, version: int | None) -> Outcome:
    if isinstance(error, Unacceptable):
        return Outcome(State.FAILED, Cause.REVIEW, detail=error.message, failure_kind=error.kind)
    if error.kind is FailureKind.AUTH_EXPIRED:
        return failed(error.kind, error.message, cause=Cause.REFUSED, expired_version=version)
    if error.retry_after is None:
        return failed(error.kind, error.message, cause=Cause.REFUSED)
    limited = error.kind is FailureKind.RATE_LIMITED
    # Networks ask for more than they need: after an hour one call asks again, whatever was said (`standing.block`).
    told = min(error.retry_after, MAX_FIRST_BLOCK) if limited else error.retry_after
    # And for less: a wait that is hardly any, or over before it was said, would be a call a second for hours.
    least = TRIES.delay(max(held.tries, 1))
    then = now + max(told, least)
    if then >= _deadline(held):
        detail = "it may be tried again only after it is too late to send it"
        outcome = replace(failed(error.kind, error.message, cause=Cause.REFUSED), detail=detail)
    else:
        # Waiting as told is no failure of ours: it does not count as a try. Nor do short waits end a delivery.
        tries = max(held.tries - 1, 0) if told >= LEAST_TOLD else min(held.tries, TRIES.max_attempts // 2)
        detail = f"it is tried again at {then:%Y-%m-%d %H:%M:%S} UTC"
        outcome = Outcome(
            State.PENDING, Cause.REFUSED, act_time=then, message=error.message, detail=detail, tries=tries
        )
    return replace(outcome, block_until=max(then, now + error.retry_after)) if limited else outcome


def _again(
    held: Held, now: datetime, message: str, *, kind: FailureKind, cause: Cause, limit: int = TRIES.max_attempts
) -> Outcome:
    then = now + TRIES.delay(max(held.tries, 1))
    if held.tries >= limit or then >= _deadline(held):
        return failed(kind, message, cause=cause)
    return Outcome(State.PENDING, cause, act_time=then, message=message)


def _deadline(held: Held) -> datetime:
    return held.miss_time + THREAD_GRACE if held.remotes else held.miss_time
