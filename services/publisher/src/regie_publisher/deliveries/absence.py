"""The only rule about a call whose answer was lost: whether it may be repeated, and when its absence is proven.

A pure function (ADR 0017) for every place that would conclude "it is not there": lookups, expired leases, repeated
calls, cancellations, misses and the answers of people.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from regie_networks.absence import Absence, Repeat

MIN_PAUSE = timedelta(milliseconds=200)


class Verdict(StrEnum):
    """The permission that an empty lookup gives."""

    PROVEN = "proven"
    """The call had no effect and will have none: any outcome may follow."""
    REPEAT = "repeat"
    """The call may still land, and a repeated one under the same key is the same post."""
    LOOKUP = "lookup"
    """The call may still land: only another lookup may follow."""
    PERSON = "person"
    """This network proves nothing: a person has to decide."""


@dataclass(frozen=True, slots=True)
class Doubt:
    """A call that may still land.

    `end` is the end of the last call on our side, or the latest possible one; `first` is a time before the first call
    under the key; `empty_lookups` counts the lookups since `end` that found nothing.
    """

    end: datetime
    first: datetime
    empty_lookups: int


@dataclass(frozen=True, slots=True)
class Ruling:
    """The verdict, and for `LOOKUP` the time of the next lookup."""

    verdict: Verdict
    time: datetime | None = None


def rule(absence: Absence, doubt: Doubt, lookup_time: datetime, *, wanted: bool = True) -> Ruling:
    """Rules on an empty lookup that began at `lookup_time` and is counted in `doubt.empty_lookups`.

    `wanted` is False for a delivery that would not be sent again (cancelled, too late, attempted too often): its end
    needs a proof on every network.
    """
    if absence.repeat is Repeat.BY_PERSON:
        return Ruling(Verdict.PERSON)
    quiet_end = doubt.end + absence.quiet
    if lookup_time >= quiet_end and doubt.empty_lookups >= absence.looks:
        return Ruling(Verdict.PROVEN)
    if wanted and may_repeat(absence, doubt, lookup_time):
        return Ruling(Verdict.REPEAT)
    if lookup_time >= quiet_end:
        return Ruling(Verdict.LOOKUP, lookup_time + max(absence.quiet / 10, MIN_PAUSE))
    pause = max(absence.quiet / 10 * 2 ** min(max(doubt.empty_lookups - 1, 0), 6), MIN_PAUSE)
    times = [lookup_time + pause, quiet_end]
    if wanted and absence.repeat is Repeat.UNDER_KEY and lookup_time < doubt.end + absence.settle:
        times.append(doubt.end + absence.settle)
    return Ruling(Verdict.LOOKUP, min(times))


def may_repeat(absence: Absence, doubt: Doubt, now: datetime) -> bool:
    """Returns whether a call that begins now makes the same post as the call that may still land."""
    match absence.repeat:
        case Repeat.AT_ONCE:
            return True
        case Repeat.UNDER_KEY:
            # Never two calls of one key at the same time: such a server writes its key down after the post.
            return doubt.end + absence.settle <= now < doubt.first + absence.key_life
        case _:
            return False
