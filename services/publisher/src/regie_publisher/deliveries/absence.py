"""The one rule about a call whose answer was lost: may it be made again, and when is it proven that it had no effect?

A pure function (ADR 0017). Every place that would say "it is not there" asks it: a look, a lease that ended, a
repeated call, a cancellation, a miss, and a person's answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from regie_networks.absence import Absence, Repeat

MIN_PAUSE = timedelta(milliseconds=200)


class Verdict(StrEnum):
    """What an empty look permits."""

    PROVEN = "proven"
    """The call had no effect and will have none: everything may follow."""
    REPEAT = "repeat"
    """The call may still land, and a repeated one under the same key is the same post."""
    LOOK = "look"
    PERSON = "person"


@dataclass(frozen=True, slots=True)
class Doubt:
    """A call that may still land.

    `end` is when the last one ended on our side, or the latest time at which it can have; `first` is before the
    first call under the key; `looks` came back empty since `end`.
    """

    end: datetime
    first: datetime
    looks: int


@dataclass(frozen=True, slots=True)
class Ruling:
    """The verdict, and for `LOOK` the time of the next look."""

    verdict: Verdict
    time: datetime | None = None


def rule(absence: Absence, doubt: Doubt, look_time: datetime, *, wanted: bool = True) -> Ruling:
    """Judges an empty look that began at `look_time` and is counted in `doubt.looks`.

    `wanted` is False for a delivery that would not be sent again (cancelled, too late, tried too often): to say so
    takes a proof on every network.
    """
    if absence.repeat is Repeat.BY_PERSON:
        return Ruling(Verdict.PERSON)
    quiet_end = doubt.end + absence.quiet
    if look_time >= quiet_end and doubt.looks >= absence.looks:
        return Ruling(Verdict.PROVEN)
    if wanted and may_repeat(absence, doubt, look_time):
        return Ruling(Verdict.REPEAT)
    if look_time >= quiet_end:
        return Ruling(Verdict.LOOK, look_time + max(absence.quiet / 10, MIN_PAUSE))
    pause = max(absence.quiet / 10 * 2 ** min(max(doubt.looks - 1, 0), 6), MIN_PAUSE)
    times = [look_time + pause, quiet_end]
    if wanted and absence.repeat is Repeat.UNDER_KEY and look_time < doubt.end + absence.settle:
        times.append(doubt.end + absence.settle)
    return Ruling(Verdict.LOOK, min(times))


def may_repeat(absence: Absence, doubt: Doubt, now: datetime) -> bool:
    """True when a call that begins now is the same post as one that may still land."""
    match absence.repeat:
        case Repeat.AT_ONCE:
            return True
        case Repeat.UNDER_KEY:
            # Never two calls of one key at the same time: such a server writes its key down after the post.
            return doubt.end + absence.settle <= now < doubt.first + absence.key_life
        case _:
            return False
