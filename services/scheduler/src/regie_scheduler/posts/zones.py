"""Time zones by their names, and advice for a name that is no zone: certain, or not given."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from functools import lru_cache
from zoneinfo import ZoneInfo, available_timezones

from regie_chassis.boundary.errors import Invalid

NOT_PLACES = frozenset({"Factory", "localtime", "posixrules"})  # in the database, yet no zone anybody lives in
MAX_NAME = 64  # characters that are repeated to the caller
OFFSET = re.compile(r"(UTC|GMT|Z)?\s*[+-]\s*[0-9]{1,2}(:?[0-9]{2})?", re.IGNORECASE)
ABBREVIATION = re.compile(r"[A-Za-z]{1,5}|[A-Za-z]{3,4}[0-9]{1,2}[A-Za-z]{3,4}")


class InvalidZone(Invalid):
    """A time zone is not in the IANA database."""


def find_zone(name: str) -> ZoneInfo:
    """Returns the zone. Raises InvalidZone with the name to write instead."""
    if name in zone_names():
        return ZoneInfo(name)
    raise InvalidZone(f"{name[:MAX_NAME]!r} is not an IANA time zone; {_advice(name)}", field="time_zone")


@lru_cache(maxsize=1)
def zone_names() -> frozenset[str]:
    """Returns the names of all zones."""
    return frozenset(available_timezones() - NOT_PLACES)


def suggestion(name: str) -> str | None:
    """Returns the zone that is certainly meant: written in another way, or by its city alone; None for anything else.

    Spelling is never guessed: what looks alike may be far away. Nor are abbreviations, which several zones share.
    """
    written = _folded(name)
    return _by_name().get(written) or _by_city().get(written)


def _advice(name: str) -> str:
    if near := suggestion(name):
        return f"did you mean {near}?"
    if name.strip().upper() in {"Z", "ZULU"}:
        return "write UTC, or the zone of a place, as in Europe/Paris"
    if OFFSET.fullmatch(name.strip()):
        return "an offset does not tell when clocks change; write the zone of a place, as in Europe/Paris, or UTC"
    if ABBREVIATION.fullmatch(name.strip()):
        return "an abbreviation can mean several zones; write the zone of a place, as in Europe/Paris"
    return "write the zone of a place as the IANA database names it, as in Europe/Paris"


def _folded(name: str) -> str:
    letters = unicodedata.normalize("NFKD", name[:MAX_NAME])
    plain = "".join(letter for letter in letters if not unicodedata.combining(letter)).casefold()
    return re.sub(r"[\s_-]+", "_", re.sub(r"\s*/\s*", "/", plain.strip()))


@lru_cache(maxsize=1)
def _by_name() -> Mapping[str, str]:
    return _unambiguous({name: _folded(name) for name in zone_names() if "/" in name})


@lru_cache(maxsize=1)
def _by_city() -> Mapping[str, str]:
    # Etc and the like name no cities; a short name could be an abbreviation.
    places = [name for name in zone_names() if "/" in name and name.partition("/")[0] in REGIONS]
    return _unambiguous({name: _folded(name.rpartition("/")[2]) for name in places})


REGIONS = frozenset(
    {"Africa", "America", "Antarctica", "Arctic", "Asia", "Atlantic", "Australia", "Europe", "Indian", "Pacific"}
)


def _unambiguous(keys: Mapping[str, str]) -> Mapping[str, str]:
    """Returns the names by their keys, without the keys that several names share."""
    names: dict[str, list[str]] = {}
    for name, key in keys.items():
        names.setdefault(key, []).append(name)
    return {key: candidates[0] for key, candidates in names.items() if len(candidates) == 1}
