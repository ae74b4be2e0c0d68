"""Decides the outcome of a lookup of an unknown delivery: pure functions over the rule of `absence`."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from regie_networks.absence import Absence
from regie_networks.errors import FailureKind, Inconclusive, Refused

from regie_publisher.deliveries.absence import Doubt, Verdict, may_repeat, rule
from regie_publisher.deliveries.decisions import MIN_REQUESTED_WAIT, RETRY_POLICY, error_text, failed, is_expired
from regie_publisher.deliveries.delivery import Cause, ClaimedDelivery, Outcome, State

LOOKUP_PAUSES = (
    timedelta(seconds=2),
    timedelta(seconds=10),
    timedelta(minutes=1),
    timedelta(minutes=5),
    timedelta(minutes=15),
    timedelta(hours=1),
)
"""Pauses between lookups that failed; after the last, a person is asked."""
MAX_REQUESTED_WAIT = timedelta(hours=24)
"""The longest time for which waits that a network asks for are no failed lookups; then a person is asked."""


def decide_absent(delivery: ClaimedDelivery, absence: Absence, lookup_time: datetime) -> Outcome:
    """Decides after a lookup that began at `lookup_time` and found nothing, by the rule of `absence.py`.

    A proven absence, or a key that makes a repetition safe, leads to another attempt with the same keys, a bounded
    number of times.
    """
    empty_lookups = delivery.empty_lookups + 1
    doubt = Doubt(end=delivery.call_end or lookup_time, first=delivery.compose_time, empty_lookups=empty_lookups)
    ruling = rule(absence, doubt, lookup_time, wanted=_is_wanted(delivery, lookup_time))
    quiet_end = doubt.end + absence.quiet
    match ruling.verdict:
        case Verdict.PROVEN:
            return _proven(delivery, lookup_time)
        case Verdict.REPEAT:
            return _repeated(delivery, lookup_time, empty_lookups, "it is not there yet")
        case Verdict.LOOKUP:
            message = f"it is not there yet; the call may still land until {quiet_end:%H:%M:%S} UTC"
            return Outcome(
                State.UNKNOWN,
                Cause.FIND,
                next_action_time=ruling.time,
                message=message,
                lookups=delivery.lookups,
                announce=False,
                call_end=doubt.end,
                quiet_end=quiet_end,
                empty_lookups=empty_lookups,
            )
        case Verdict.PERSON:
            message = "this network cannot be read; only a person can say whether it is there"
            return Outcome(
                State.UNKNOWN,
                Cause.FIND,
                message=message,
                lookups=delivery.lookups,
                needs_person=True,
                empty_lookups=empty_lookups,
            )


def decide_inconclusive(
    error: Inconclusive, delivery: ClaimedDelivery, absence: Absence, lookup_time: datetime
) -> Outcome | None:
    """Decides after an inconclusive lookup, whose post may be another delivery's.

    A network that honours keys answers the repeated call with the right post. Returns None if no call may be made.
    """
    doubt = Doubt(
        end=delivery.call_end or lookup_time, first=delivery.compose_time, empty_lookups=delivery.empty_lookups
    )
    if not _is_wanted(delivery, lookup_time) or not may_repeat(absence, doubt, lookup_time):
        return None
    return _repeated(delivery, lookup_time, delivery.empty_lookups, error_text(error))


def decide_find_error(error: Exception, delivery: ClaimedDelivery, now: datetime, *, version: int | None) -> Outcome:
    """Decides after a failed lookup: it is repeated later, and at last a person is asked.

    A wait that the network asks for is no failure; it also pauses everything that is sent to the account.
    """
    waits = error.retry_after if isinstance(error, Refused) else None
    heeded = waits is not None and waits >= MIN_REQUESTED_WAIT and now < (delivery.call_end or now) + MAX_REQUESTED_WAIT
    lookups = delivery.lookups if heeded else delivery.lookups + 1
    expired_version = version if is_expired(error) else None
    if lookups > len(LOOKUP_PAUSES):
        return Outcome(
            State.UNKNOWN,
            Cause.FIND,
            message=error_text(error),
            lookups=lookups,
            needs_person=True,
            expired_version=expired_version,
        )
    pause = LOOKUP_PAUSES[max(lookups - 1, 0)]
    limited = isinstance(error, Refused) and error.kind is FailureKind.RATE_LIMITED
    return Outcome(
        State.UNKNOWN,
        Cause.FIND,
        next_action_time=now + max(pause, waits or pause),
        message=error_text(error),
        lookups=lookups,
        announce=False,
        expired_version=expired_version,
        block_until=now + waits if limited and waits is not None else None,
    )


def _proven(delivery: ClaimedDelivery, now: datetime) -> Outcome:
    message = "the network proves that it is not there"
    if delivery.consecutive_attempts >= RETRY_POLICY.max_attempts:
        message = f"{message}, after {delivery.attempt_number} attempts"
        return replace(failed(FailureKind.PLATFORM_ERROR, message, cause=Cause.FIND), proven=True)
    then = now + RETRY_POLICY.delay(max(delivery.consecutive_attempts, 1))
    return Outcome(State.PENDING, Cause.FIND, next_action_time=then, message=message, proven=True)


def _repeated(delivery: ClaimedDelivery, now: datetime, empty_lookups: int, why: str) -> Outcome:
    then = now + RETRY_POLICY.delay(max(delivery.consecutive_attempts, 1))
    message = f"{why}; sent again under the same key, which cannot make a second post"
    return Outcome(State.PENDING, Cause.FIND, next_action_time=then, message=message, empty_lookups=empty_lookups)


def _is_wanted(delivery: ClaimedDelivery, now: datetime) -> bool:
    """Returns whether the delivery would be sent again if its absence were proven; a begun thread always is."""
    if delivery.consecutive_attempts >= RETRY_POLICY.max_attempts:
        return False
    return bool(delivery.remotes) or (not delivery.cancelled and now < delivery.miss_time)
