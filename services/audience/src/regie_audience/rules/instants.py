"""Texts that are dates or times: which ones are, and the instant that they name. Pure.

A date (`2026-03-01`) stands for its first instant in UTC. A time is RFC 3339 with seconds and an offset; parts of a
second beyond microseconds are cut off. A time without an offset names no instant and is a plain text.
"""

from __future__ import annotations

import re
from datetime import date

_LEAP_YEAR = "(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:0[48]|[2468][048]|[13579][26])00)"
_DATE = (
    "(?:(?!0000)[0-9]{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)"
    f"|02-(?:0[1-9]|1[0-9]|2[0-8]))|{_LEAP_YEAR}-02-29)"
)
_TIME = "[Tt ](?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:[.][0-9]{1,9})?(?:[Zz]|[+-](?:0[0-9]|1[0-4]):[0-5][0-9])"
FORM = f"{_DATE}(?:{_TIME})?"
"""One form for Python's `re` and for PostgreSQL, so that both call the same texts instants."""

LOCAL = re.compile(f"{_DATE}[Tt ][0-9]{{2}}:[0-9]{{2}}(?::[0-9]{{2}}(?:[.][0-9]+)?)?")
"""A time that lacks its offset."""

_FORM = re.compile(FORM)
_SHORTEST, _LONGEST = 10, 35
_DAY, _HOUR, _MINUTE, _SECOND = 86_400_000_000, 3_600_000_000, 60_000_000, 1_000_000  # microseconds


def instant_of(text: str) -> int | None:
    """Returns the microseconds from a fixed beginning to the instant that a text names; None where it names none."""
    if not _SHORTEST <= len(text) <= _LONGEST or not _FORM.fullmatch(text):
        return None
    instant = date(int(text[:4]), int(text[5:7]), int(text[8:10])).toordinal() * _DAY
    if len(text) == _SHORTEST:
        return instant
    instant += int(text[11:13]) * _HOUR + int(text[14:16]) * _MINUTE + int(text[17:19]) * _SECOND
    fraction, offset = _fraction_and_offset(text[19:])
    return instant + fraction - offset


def _fraction_and_offset(rest: str) -> tuple[int, int]:
    zone = rest.lstrip(".0123456789")
    digits = rest[1 : len(rest) - len(zone)]
    fraction = int(digits[:6].ljust(6, "0")) if digits else 0
    if zone in {"Z", "z"}:
        return fraction, 0
    offset = int(zone[1:3]) * _HOUR + int(zone[4:6]) * _MINUTE
    return fraction, -offset if zone[0] == "-" else offset
