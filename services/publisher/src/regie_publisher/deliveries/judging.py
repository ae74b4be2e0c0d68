"""What an answer means for a delivery: pure rules, no database, no network.

The one question behind all of them is whether the call may have had an effect. Where it may, the only way on is
`unknown`; every other way on is open.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from regie_chassis.retry import RetryPolicy

from regie_publisher.connectors.connector import (
    CannotTell,
    ConnectorError,
    FailureKind,
    NotSent,
    OutcomeUnknown,
    Processing,
    Refused,
    Remote,
)
from regie_publisher.deliveries.delivery import FIND_DELAY, THREAD_GRACE, Held, Outcome, State

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
LONGEST_CHECK = timedelta(minutes=5)
PROCESSING_LIMIT = timedelta(hours=24)

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

_SILENT = ("timeout", "no_answer", "not_sent", "prepare")
"""Causes of outcomes that follow a call without a usable answer."""


def source_of(kind: FailureKind) -> str:
    """Returns who has to act on a failure: user, platform or system."""
    return SOURCES[kind]


def failed(kind: FailureKind, message: str, *, cause: str, expired_version: int | None = None) -> Outcome:
    """Returns the end of the way for a delivery that will not be on the network."""
    return Outcome(State.FAILED, cause, message=message, failure_kind=kind, expired_version=expired_version)


def unknown(message: str, now: datetime, *, cause: str, delay: timedelta = FIND_DELAY) -> Outcome:
    """Returns what follows a call that may have had an effect."""
    return Outcome(State.UNKNOWN, cause, act_time=now + delay, message=message)


def before_publish(error: Exception, held: Held, now: datetime, *, version: int | None) -> Outcome:
    """Judges an error before the mutation was asked for: nothing is visible, so trying again is safe."""
    match error:
        case Refused():
            return _refused(error, held, now, version=version)
        case NotSent():
            return _again(held, now, str(error), kind=FailureKind.NETWORK_UNREACHABLE, cause="not_sent")
        case OutcomeUnknown() | CannotTell() | TimeoutError():
            message = str(error) or "the preparation took too long"
            return _again(held, now, message, kind=FailureKind.PLATFORM_ERROR, cause="prepare", limit=PREPARE_TRIES)
        case _:
            message = "something failed on our side before the call; it is logged under this trace"
            return _again(held, now, message, kind=FailureKind.INTERNAL, cause="internal", limit=INTERNAL_TRIES)


def after_publish(error: Exception, held: Held, now: datetime, *, version: int | None) -> Outcome:
    """Judges an error of `publish` itself: whatever does not prove that nothing happened is unknown."""
    match error:
        case Refused():
            return _refused(error, held, now, version=version)
        case NotSent():
            return _again(held, now, str(error), kind=FailureKind.NETWORK_UNREACHABLE, cause="not_sent")
        case TimeoutError():
            return unknown("the network did not answer in time", now, cause="timeout")
        case ConnectorError():
            return unknown(str(error), now, cause="no_answer")
        case _:
            return unknown("the call ended in an error of ours; it is logged under this trace", now, cause="internal")


def out(answer: Remote | Processing, held: Held, now: datetime, *, done: int, cause: str) -> Outcome:
    """Judges an answer of `publish`, `check` or `find`. `done` counts the segments that were out before it."""
    if isinstance(answer, Processing):
        if now > held.miss_time + PROCESSING_LIMIT:
            return unknown("the network has been processing for too long", now, cause=cause)
        return Outcome(
            State.PROCESSING,
            cause,
            act_time=now + min(answer.check_after, LONGEST_CHECK),
            processing_handle=answer.handle,
            announce=held.state is not State.PROCESSING,
        )
    if done + 1 >= len(held.segment_keys):
        return Outcome(State.PUBLISHED, cause, remote=answer)
    return Outcome(State.PENDING, cause, act_time=now, remote=answer)


def after_check(error: Exception, held: Held, now: datetime, *, version: int | None) -> Outcome:
    """Judges an error while asking about a segment that is being processed: a refusal of the post ends it."""
    if isinstance(error, Refused) and error.retry_after is None and error.kind is not FailureKind.AUTH_EXPIRED:
        return failed(error.kind, error.message, cause="check")
    if now > held.miss_time + PROCESSING_LIMIT:
        return unknown(f"the network cannot be asked: {error}", now, cause="check")
    pause = error.retry_after if isinstance(error, Refused) and error.retry_after else LONGEST_CHECK / 10
    return Outcome(
        State.PROCESSING,
        "check",
        act_time=now + pause,
        message=words_of(error),
        processing_handle=held.processing_handle,
        announce=False,
        expired_version=version if _expired(error) else None,
    )


def absent(held: Held, now: datetime) -> Outcome:
    """Judges a proven absence: another attempt with the same keys, a bounded number of times."""
    message = "the network proves that it is not there"
    if held.tries >= TRIES.max_attempts:
        return failed(FailureKind.PLATFORM_ERROR, f"{message}, after {held.attempt} attempts", cause="find")
    return Outcome(State.PENDING, "find", act_time=now + TRIES.delay(max(held.tries, 1)), message=message)


def after_find(error: Exception, held: Held, now: datetime, *, version: int | None) -> Outcome:
    """Judges a find without proof: again later, and at last a person."""
    asked = held.finds + 1
    if asked > len(FIND_AGAIN):
        return Outcome(State.UNKNOWN, "find", message=words_of(error), finds=asked, needs_person=True)
    pause = FIND_AGAIN[asked - 1]
    if isinstance(error, Refused) and error.retry_after is not None:
        pause = max(pause, error.retry_after)
    return Outcome(
        State.UNKNOWN,
        "find",
        act_time=now + pause,
        message=words_of(error),
        finds=asked,
        announce=False,
        expired_version=version if _expired(error) else None,
    )


def was_answered(outcome: Outcome) -> bool | None:
    """Tells whether the network's host gave a usable answer to an attempt; None where it was not called."""
    if outcome.cause in _SILENT:
        return False
    if outcome.cause in ("worker", "refused") and outcome.failure_kind is not FailureKind.UNSUPPORTED:
        return True
    return None


def words_of(error: Exception) -> str:
    """Returns what may be told of an error: a connector's words are the network's, any other's stay in the log."""
    if isinstance(error, ConnectorError):
        return str(error)[:1000]
    return "something failed on our side; it is logged under this trace"


def _expired(error: Exception) -> bool:
    return isinstance(error, Refused) and error.kind is FailureKind.AUTH_EXPIRED


def _refused(error: Refused, held: Held, now: datetime, *, version: int | None) -> Outcome:
    if error.kind is FailureKind.AUTH_EXPIRED:
        return failed(error.kind, error.message, cause="refused", expired_version=version)
    if error.retry_after is None:
        return failed(error.kind, error.message, cause="refused")
    then = now + error.retry_after
    limited = error.kind is FailureKind.RATE_LIMITED
    if then >= _deadline(held):
        message = f"{error.message} (it may be tried again only after it is too late to send it)"
        outcome = failed(error.kind, message, cause="refused")
    else:
        # Waiting as told is no failure of ours: it does not count as a try.
        tries = max(held.tries - 1, 0)
        outcome = Outcome(State.PENDING, "refused", act_time=then, message=error.message, tries=tries)
    return replace(outcome, block_until=then) if limited else outcome


def _again(
    held: Held, now: datetime, message: str, *, kind: FailureKind, cause: str, limit: int = TRIES.max_attempts
) -> Outcome:
    then = now + TRIES.delay(max(held.tries, 1))
    if held.tries >= limit or then >= _deadline(held):
        return failed(kind, message, cause=cause)
    return Outcome(State.PENDING, cause, act_time=then, message=message)


def _deadline(held: Held) -> datetime:
    return held.miss_time + THREAD_GRACE if held.remotes else held.miss_time
