"""From wall time and zone to the instant at which a post leaves.

The policy for the nights on which clocks change: a wall time that does not exist is refused, with the next one that
does; a wall time that comes twice means the first. Both readings are fixed here and nowhere else.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, available_timezones

from regie_chassis.errors import Invalid, Unprocessable

FARTHEST = timedelta(days=5 * 366)
WIDEST_OFFSET = timedelta(days=2)  # more than any zone differs from UTC
NOT_PLACES = frozenset({"Factory", "localtime", "posixrules"})  # in the database, yet no zone anybody lives in
WALL_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?")


class InvalidTime(Invalid):
    """A wall time is not ISO 8601 without offset."""


class InvalidZone(Invalid):
    """A time zone is not in the IANA database."""


class TimeInPast(Unprocessable):
    """A post was to leave before now."""


class TimeTooFar(Unprocessable):
    """A post was to leave beyond the years for which zones can be trusted."""


class NonexistentTime(Unprocessable):
    """A wall time falls into the gap that a change of the clocks leaves."""


@dataclass(frozen=True, slots=True)
class PublishTime:
    """When a post leaves: what a person said, and the instant that it means."""

    local_time: str
    time_zone: str
    instant: datetime


def resolve(local_time: str, time_zone: str, *, now: datetime) -> PublishTime:
    """Returns the instant of a wall time in a zone.

    Raises InvalidTime, InvalidZone, NonexistentTime, TimeInPast (before `now`) or TimeTooFar (beyond FARTHEST).
    """
    wall = _read_wall_time(local_time)
    zone = _find_zone(time_zone)
    here = now.astimezone(UTC).replace(tzinfo=None)
    # Far off, the answer needs no zone, and conversion could leave the calendar.
    if wall < here - WIDEST_OFFSET:
        raise TimeInPast(f"{local_time} is in the past; give a time to come", field="publish_local_time")
    if wall > here + FARTHEST + WIDEST_OFFSET:
        raise _too_far(local_time)
    instant = wall.replace(tzinfo=zone, fold=0).astimezone(UTC)
    if instant.astimezone(zone).replace(tzinfo=None) != wall:
        raise NonexistentTime(
            f"{local_time} does not exist in {time_zone}, where clocks are moved forward;"
            f" the next time that does is {_after_gap(wall, zone).isoformat()}",
            field="publish_local_time",
        )
    if instant < now:
        raise TimeInPast(f"{local_time} in {time_zone} is in the past; give a time to come", field="publish_local_time")
    if instant > now + FARTHEST:
        raise _too_far(local_time)
    return PublishTime(local_time, time_zone, instant)


def _read_wall_time(local_time: str) -> datetime:
    try:
        if not WALL_TIME.fullmatch(local_time):
            raise ValueError("not in the form")
        return datetime.fromisoformat(local_time)
    except ValueError as error:
        raise InvalidTime(
            f"{local_time[:40]!r} is not a wall time; write it as 2026-03-02T09:00:00, without an offset",
            field="publish_local_time",
        ) from error


def _find_zone(time_zone: str) -> ZoneInfo:
    if time_zone in _zones():
        return ZoneInfo(time_zone)
    near = difflib.get_close_matches(time_zone[:64], _zones(), n=1)
    hint = f"; did you mean {near[0]}?" if near else "; give one as Europe/Paris"
    raise InvalidZone(f"{time_zone[:64]!r} is not an IANA time zone{hint}", field="time_zone")


@lru_cache(maxsize=1)
def _zones() -> frozenset[str]:
    return frozenset(available_timezones() - NOT_PLACES)


def _too_far(local_time: str) -> TimeTooFar:
    return TimeTooFar(f"{local_time} is more than five years ahead; give an earlier time", field="publish_local_time")


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
