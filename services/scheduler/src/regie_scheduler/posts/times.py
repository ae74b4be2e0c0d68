"""From wall time and zone to the instant at which a post leaves.

The policy for the nights on which clocks change: a wall time that does not exist is refused, with the next one that
does; a wall time that comes twice means the first, unless the second is asked for. Both readings are fixed here and
nowhere else.
"""

from __future__ import annotations

import re
from calendar import isleap
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from regie_chassis.boundary.errors import Invalid, Unprocessable

from regie_scheduler.posts.zones import find_zone

MAX_AHEAD = 5  # calendar years
MAX_OFFSET = timedelta(days=2)  # more than any zone differs from UTC
FIRST, SECOND = "first", "second"  # of the two instants of a wall time that comes twice
OFFSET = re.compile(r"(.*[0-9])([Zz]|[+-][0-9]{2}(:?[0-9]{2})?)", re.DOTALL)
WALL_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?")


class InvalidTime(Invalid):
    """A wall time is not ISO 8601 without offset."""


class InvalidOccurrence(Unprocessable):
    """The second of a wall time that comes once, or something that is neither first nor second."""


class TimeInPast(Unprocessable):
    """A post was to leave before now."""


class TimeTooFar(Unprocessable):
    """A post was to leave beyond the years for which zones can be trusted."""


class NonexistentTime(Unprocessable):
    """A wall time falls into the gap that a change of the clocks leaves."""


@dataclass(frozen=True, slots=True)
class PublishTime:
    """A post's publish time: the wall time as a person wrote it, and its instant."""

    local_time: str
    time_zone: str
    instant: datetime

    def is_same(self, other: PublishTime) -> bool:
        """True for the same instant in the same zone, however the wall time is spelt (09:30 is 09:30:00)."""
        return (self.instant, self.time_zone) == (other.instant, other.time_zone)


def resolve(local_time: str, time_zone: str, *, now: datetime, occurrence: str = "") -> PublishTime:
    """Returns the instant of a wall time in a zone; of one that comes twice, the `occurrence`, empty for the first.

    Raises InvalidTime, InvalidZone, InvalidOccurrence, NonexistentTime, TimeInPast (before `now`) or TimeTooFar
    (after `latest`).
    """
    wall = _read_wall_time(local_time)
    zone = find_zone(time_zone)
    here = now.astimezone(UTC).replace(tzinfo=None)
    # Far off, the answer needs no zone, and conversion could leave the calendar.
    if wall < here - MAX_OFFSET:
        raise _in_past(local_time, time_zone)
    if wall > latest(here) + MAX_OFFSET:
        raise _too_far(local_time, time_zone)
    instant = wall.replace(tzinfo=zone, fold=0).astimezone(UTC)
    if instant.astimezone(zone).replace(tzinfo=None) != wall:
        raise NonexistentTime(
            f"{local_time} does not exist in {time_zone}, where clocks are moved forward;"
            f" the next time that does is {_after_gap(wall, zone).isoformat()}",
            field="publish_local_time",
        )
    instant = _chosen(wall, zone, occurrence)
    if instant < now:
        raise _in_past(local_time, time_zone)
    if instant > latest(now.astimezone(UTC)):
        raise _too_far(local_time, time_zone)
    return PublishTime(local_time, time_zone, instant)


def latest(now: datetime) -> datetime:
    """Returns the last time at which a post may leave: the same date and time, MAX_AHEAD years on. From 29 February it
    is the end of that month in a year without that day."""
    year = now.year + MAX_AHEAD
    return now.replace(year=year, day=28 if _is_leap_day(now) and not isleap(year) else now.day)


def _is_leap_day(time: datetime) -> bool:
    return (time.month, time.day) == (2, 29)


def occurrence_of(local_time: str, time_zone: str, instant: datetime) -> str:
    """Returns which of the instants of a wall time this one is; the first where there is one."""
    first = datetime.fromisoformat(local_time).replace(tzinfo=ZoneInfo(time_zone), fold=0).astimezone(UTC)
    return SECOND if instant > first else FIRST


def _chosen(wall: datetime, zone: ZoneInfo, occurrence: str) -> datetime:
    if occurrence not in {"", FIRST, SECOND}:
        raise InvalidOccurrence("give first or second, or leave it out", field="occurrence")
    first, second = (wall.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
    if occurrence == SECOND and first == second:
        raise InvalidOccurrence(f"{wall.isoformat()} comes once there; leave occurrence out", field="occurrence")
    return second if occurrence == SECOND else first


def _read_wall_time(local_time: str) -> datetime:
    quoted = local_time[:40]
    if WALL_TIME.fullmatch(local_time):
        try:
            return datetime.fromisoformat(local_time)
        except ValueError as error:
            raise InvalidTime(
                f"{quoted!r} is on no calendar or clock; check the day of the month, the hour and the minute",
                field="publish_local_time",
            ) from error
    if (offset := OFFSET.fullmatch(local_time)) and WALL_TIME.fullmatch(offset[1]):
        raise InvalidTime(
            f"{quoted!r} has an offset; write {offset[1]}, and the place in time_zone", field="publish_local_time"
        )
    raise InvalidTime(f"{quoted!r} is not a wall time; write it as 2026-03-02T09:00:00", field="publish_local_time")


def _in_past(local_time: str, time_zone: str) -> TimeInPast:
    return TimeInPast(f"{local_time} in {time_zone} is in the past; give a time to come", field="publish_local_time")


def _too_far(local_time: str, time_zone: str) -> TimeTooFar:
    return TimeTooFar(
        f"{local_time} in {time_zone} is more than {MAX_AHEAD} years ahead; give an earlier time",
        field="publish_local_time",
    )


def _after_gap(wall: datetime, zone: ZoneInfo) -> datetime:
    """Returns the first wall time after the gap that holds `wall`."""
    # In a gap fold=0 reads with the offset before it and fold=1 with the one after (PEP 495), so that these two
    # instants lie on either side of the change, and halving finds it.
    before = wall.replace(tzinfo=zone, fold=1).astimezone(UTC)
    after = wall.replace(tzinfo=zone, fold=0).astimezone(UTC)
    offset = after.astimezone(zone).utcoffset()
    while after - before > timedelta(microseconds=1):
        middle = before + (after - before) / 2
        if middle.astimezone(zone).utcoffset() == offset:
            after = middle
        else:
            before = middle
    return after.astimezone(zone).replace(tzinfo=None)
