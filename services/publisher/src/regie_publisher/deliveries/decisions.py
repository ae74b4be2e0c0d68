"""Decides the outcome of an attempt: a pure function for each kind of answer or error.

Decisions about lookups of unknown deliveries are in `lookup_decisions`.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from regie_chassis.process.retry import RetryPolicy
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

from regie_publisher.channels.restrictions import MAX_FIRST_BLOCK
from regie_publisher.deliveries.delivery import FIND_DELAY, THREAD_GRACE, Cause, ClaimedDelivery, Outcome, State

RETRY_POLICY = RetryPolicy(max_attempts=20, base=timedelta(milliseconds=500), cap=timedelta(minutes=1))
MAX_PREPARE_ATTEMPTS = 8
MAX_INTERNAL_ATTEMPTS = 3
MIN_REQUESTED_WAIT = timedelta(seconds=10)
"""The shortest wait that counts as asked for by the network; shorter ones grow as pauses after failures do."""
MAX_CHECK_PAUSE = timedelta(minutes=5)
CHECK_GROWTH = 5
"""Checks of a processing post after which the pause has grown by the time that the network asked for."""
PROCESSING_LIMIT = timedelta(hours=24)

_SILENT = (Cause.TIMEOUT, Cause.NO_ANSWER, Cause.NOT_SENT, Cause.PREPARE)
"""Causes of outcomes after a call without a usable answer."""


def failed(kind: FailureKind, message: str, *, cause: Cause, expired_version: int | None = None) -> Outcome:
    """Returns the outcome of a delivery that will not be published."""
    return Outcome(State.FAILED, cause, message=message, failure_kind=kind, expired_version=expired_version)


def unknown(message: str, now: datetime, *, cause: Cause, quiet: timedelta) -> Outcome:
    """Returns the outcome of a call that ended now and may have had its effect, or may still have it within `quiet`."""
    return Outcome(
        State.UNKNOWN,
        cause,
        next_action_time=now + FIND_DELAY,
        message=message,
        call_end=now,
        quiet_end=now + quiet,
        empty_lookups=0,
    )


def while_in_doubt(delivery: ClaimedDelivery, outcome: Outcome, now: datetime) -> Outcome:
    """Returns the outcome, but an unknown one in place of a failure while an earlier call may still land."""
    if delivery.call_end is None or outcome.proven or outcome.state is not State.FAILED:
        return outcome
    return replace(
        outcome,
        state=State.UNKNOWN,
        next_action_time=now + FIND_DELAY,
        failure_kind=None,
        message=f"an earlier call may still take effect; sending again was refused: {outcome.message}"[:1000],
        announce=False,
    )


def decide_preparation_error(
    error: Exception, delivery: ClaimedDelivery, now: datetime, *, version: int | None
) -> Outcome:
    """Decides after an error before the publish call: nothing is public, so that another attempt is safe."""
    match error:
        case Refused():
            return _refused(error, delivery, now, version=version)
        case NotSent():
            return _again(delivery, now, str(error), kind=FailureKind.NETWORK_UNREACHABLE, cause=Cause.NOT_SENT)
        case OutcomeUnknown() | Inconclusive() | TimeoutError():
            message = str(error) or "the preparation took too long"
            return _again(
                delivery, now, message, kind=FailureKind.PLATFORM_ERROR, cause=Cause.PREPARE, limit=MAX_PREPARE_ATTEMPTS
            )
        case _:
            message = "something failed on our side before the call; it is logged under this trace"
            return _again(
                delivery, now, message, kind=FailureKind.INTERNAL, cause=Cause.INTERNAL, limit=MAX_INTERNAL_ATTEMPTS
            )


def decide_publish_error(
    error: Exception, delivery: ClaimedDelivery, now: datetime, *, version: int | None, quiet: timedelta
) -> Outcome:
    """Decides after an error of `publish`: without a proof that it had no effect, the outcome is unknown."""
    match error:
        case Refused():
            return _refused(error, delivery, now, version=version)
        case NotSent():
            return _again(delivery, now, str(error), kind=FailureKind.NETWORK_UNREACHABLE, cause=Cause.NOT_SENT)
        case TimeoutError():
            return unknown("the network did not answer in time", now, cause=Cause.TIMEOUT, quiet=quiet)
        case ConnectorError():
            return unknown(str(error), now, cause=Cause.NO_ANSWER, quiet=quiet)
        case _:
            message = "the call ended in an error of ours; it is logged under this trace"
            return unknown(message, now, cause=Cause.INTERNAL, quiet=quiet)


def decide_published(
    answer: Remote | Processing, delivery: ClaimedDelivery, now: datetime, *, done: int, cause: Cause, quiet: timedelta
) -> Outcome:
    """Decides after an answer of `publish`, `check` or `find`; `done` counts the segments that were public before."""
    if isinstance(answer, Processing):
        if now > delivery.miss_time + PROCESSING_LIMIT:
            return unknown("the network has been processing for too long", now, cause=cause, quiet=quiet)
        return Outcome(
            State.PROCESSING,
            cause,
            next_action_time=now + _check_pause(delivery, answer.check_after),
            processing_handle=answer.handle,
            lookups=_checks(delivery),
            announce=delivery.state is not State.PROCESSING,
        )
    if done + 1 >= len(delivery.segment_keys):
        return Outcome(State.PUBLISHED, cause, remote=answer)
    return Outcome(State.PENDING, cause, next_action_time=now, remote=answer)


def decide_check_error(
    error: Exception, delivery: ClaimedDelivery, now: datetime, *, version: int | None, quiet: timedelta
) -> Outcome:
    """Decides after an error of `check`: a refusal of the post ends the delivery, other errors repeat the check."""
    if isinstance(error, Refused) and error.retry_after is None and error.kind is not FailureKind.AUTH_EXPIRED:
        return failed(error.kind, error.message, cause=Cause.CHECK)
    if now > delivery.miss_time + PROCESSING_LIMIT:
        return unknown(f"the network cannot be asked: {error_text(error)}", now, cause=Cause.CHECK, quiet=quiet)
    pause = error.retry_after if isinstance(error, Refused) and error.retry_after else MAX_CHECK_PAUSE / 10
    return Outcome(
        State.PROCESSING,
        Cause.CHECK,
        next_action_time=now + max(pause, _check_pause(delivery, pause)),
        message=error_text(error),
        processing_handle=delivery.processing_handle,
        lookups=_checks(delivery),
        announce=False,
        expired_version=version if is_expired(error) else None,
    )


def decide_not_published(now: datetime) -> Outcome:
    """Decides after a person's answer that the post is not published, once no call may land any more."""
    return Outcome(State.PENDING, Cause.PERSON, next_action_time=now, consecutive_attempts=0, proven=True)


def was_answered(outcome: Outcome) -> bool | None:
    """Returns whether the network's host gave a usable answer to an attempt; None if it was not called."""
    if outcome.cause in _SILENT:
        return False
    if outcome.cause in (Cause.WORKER, Cause.REFUSED) and outcome.failure_kind is not FailureKind.UNSUPPORTED:
        return True
    return None


def _checks(delivery: ClaimedDelivery) -> int:
    return delivery.lookups + 1 if delivery.state is State.PROCESSING else 0


def _check_pause(delivery: ClaimedDelivery, requested: timedelta) -> timedelta:
    return min(requested * (1 + _checks(delivery) / CHECK_GROWTH), MAX_CHECK_PAUSE)


def error_text(error: Exception) -> str:
    """Returns the public text of an error: the network's own from a connector's error; other errors stay in the log."""
    if isinstance(error, ConnectorError):
        return str(error)[:1000]
    if isinstance(error, TimeoutError):
        return "the network did not answer in time"
    return "something failed on our side; it is logged under this trace"


def is_expired(error: Exception) -> bool:
    return isinstance(error, Refused) and error.kind is FailureKind.AUTH_EXPIRED


def _refused(error: Refused, delivery: ClaimedDelivery, now: datetime, *, version: int | None) -> Outcome:
    if isinstance(error, Unacceptable):
        return Outcome(State.FAILED, Cause.REVIEW, detail=error.message, failure_kind=error.kind)
    if error.kind is FailureKind.AUTH_EXPIRED:
        return failed(error.kind, error.message, cause=Cause.REFUSED, expired_version=version)
    if error.retry_after is None:
        return failed(error.kind, error.message, cause=Cause.REFUSED)
    limited = error.kind is FailureKind.RATE_LIMITED
    # Networks ask for more than they need: after an hour one call probes again (`restrictions.pause_channel`).
    wait = min(error.retry_after, MAX_FIRST_BLOCK) if limited else error.retry_after
    # And for less: a wait of almost nothing would be a call a second for hours.
    least = RETRY_POLICY.delay(max(delivery.consecutive_attempts, 1))
    then = now + max(wait, least)
    if then >= _deadline(delivery):
        detail = "it may be tried again only after it is too late to send it"
        outcome = replace(failed(error.kind, error.message, cause=Cause.REFUSED), detail=detail)
    else:
        # A wait that the network asks for does not count as an attempt, and short waits do not end a delivery.
        attempts = (
            max(delivery.consecutive_attempts - 1, 0)
            if wait >= MIN_REQUESTED_WAIT
            else min(delivery.consecutive_attempts, RETRY_POLICY.max_attempts // 2)
        )
        detail = f"it is tried again at {then:%Y-%m-%d %H:%M:%S} UTC"
        outcome = Outcome(
            State.PENDING,
            Cause.REFUSED,
            next_action_time=then,
            message=error.message,
            detail=detail,
            consecutive_attempts=attempts,
        )
    return replace(outcome, block_until=max(then, now + error.retry_after)) if limited else outcome


def _again(
    delivery: ClaimedDelivery,
    now: datetime,
    message: str,
    *,
    kind: FailureKind,
    cause: Cause,
    limit: int = RETRY_POLICY.max_attempts,
) -> Outcome:
    then = now + RETRY_POLICY.delay(max(delivery.consecutive_attempts, 1))
    if delivery.consecutive_attempts >= limit or then >= _deadline(delivery):
        return failed(kind, message, cause=cause)
    return Outcome(State.PENDING, cause, next_action_time=then, message=message)


def _deadline(delivery: ClaimedDelivery) -> datetime:
    return delivery.miss_time + THREAD_GRACE if delivery.remotes else delivery.miss_time
