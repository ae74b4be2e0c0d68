"""A profile's attributes: flat facts by name, and the rules of their change. Pure.

A value is a text, a finite number, a boolean or a list of texts. Values of different types are never the same, not
even `1` and `true`. A number is a double, whatever form it came in, so that Python and SQL compare the same number.
Texts are kept in Unicode's form NFC and without blanks at their ends. Names under OWN are Régie's: facts from a
network and facts from a customer never overwrite one another.
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Mapping
from datetime import UTC, datetime

from regie_chassis.boundary.errors import Invalid, Unprocessable

MAX_ATTRIBUTES = 200
MAX_SIZE = 64 * 1024  # bytes of a customer's attributes as JSON
MAX_TEXT = 1_000  # characters
MAX_LIST = 100
MAX_EXTERNAL_ID = 500  # characters
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.:-]{0,63}")
OWN = "regie."
_show_json = json.JSONEncoder(ensure_ascii=False).encode

Value = str | int | float | bool | list[str]
Attributes = Mapping[str, Value]


class InvalidProfile(Invalid):
    """A profile has a wrong external id, or an attribute of the wrong form."""


class ProfileTooLarge(Unprocessable):
    """A profile's attributes, or all profiles of an answer, take more bytes than they may."""


def kind_of(value: object) -> str:
    """Returns text, number, boolean or list; empty for anything else."""
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, str):
        return "text"
    if isinstance(value, int | float):
        return "number" if _is_double(value) else ""
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return "list"
    return ""


def same(one: object, other: object) -> bool:
    """True when two values have the same type and are equal."""
    return kind_of(one) == kind_of(other) and one == other


def problem_of(value: object) -> str:
    """Returns the problem of a value in a sentence; empty for a valid one."""
    if isinstance(value, str):
        return _problem_of_text(value)
    if not kind_of(value):
        return "give a text, a finite number, true or false, or a list of texts"
    if isinstance(value, list):
        if len(value) > MAX_LIST:
            return f"give at most {MAX_LIST} texts"
        return next(filter(None, map(_problem_of_text, value)), "")
    return ""


def normal_text(text: str) -> str:
    """Returns a text as it is kept: in form NFC, without blanks at its ends. Upper and lower case stay."""
    return text.strip() if text.isascii() else unicodedata.normalize("NFC", text).strip()


def normal_value(value: Value) -> Value:
    """Returns a value as it is kept: a number as a double, texts as `normal_text` has them."""
    if isinstance(value, bool | float):
        return value
    if isinstance(value, int):
        return float(value)
    return normal_text(value) if isinstance(value, str) else [normal_text(one) for one in value]


def stored(attributes: Mapping[str, Value]) -> dict[str, Value]:
    """Returns attributes as they come from the database, where whole numbers have lost that they are doubles."""
    return {name: float(value) if type(value) is int else value for name, value in attributes.items()}


def external_id_of(given: str, field: str) -> str:
    """Returns an external id as it is kept. Raises InvalidProfile. Ids that differ in case are different people."""
    external_id = normal_text(given)
    if not external_id or len(external_id) > MAX_EXTERNAL_ID or not external_id.isprintable():
        raise InvalidProfile(
            f"an external id has 1 to {MAX_EXTERNAL_ID} printable characters; give another", field=field
        )
    return external_id


def patch_of(given: Mapping[str, object], field: str) -> dict[str, Value | None]:
    """Returns a customer's patch as it is kept; null removes.

    Raises InvalidProfile for a name or a value of the wrong form, and for a name that is Régie's own.
    """
    if len(given) > MAX_ATTRIBUTES:
        raise InvalidProfile(f"a profile has at most {MAX_ATTRIBUTES} attributes; give fewer", field=field)
    return {name: _value_of(name, value, field) for name, value in given.items()}


def merged(old: Attributes, patch: Mapping[str, Value | None], field: str = "attributes") -> dict[str, Value]:
    """Returns the attributes after a customer's patch: null removes, others are set.

    Raises InvalidProfile for too many and ProfileTooLarge for too large ones. What is past a limit already may change
    and shrink, but not grow.
    """
    kept = {name: value for name, value in {**old, **patch}.items() if value is not None}
    count = _count(kept)
    if count > MAX_ATTRIBUTES and count > _count(old):
        raise InvalidProfile(
            f"the profile would have {count} attributes; at most {MAX_ATTRIBUTES} are kept", field=field
        )
    size = size_of(kept)
    if size > MAX_SIZE and size > size_of(old):
        raise ProfileTooLarge(
            f"the profile's attributes would take {size:,} bytes as JSON; at most {MAX_SIZE:,} are kept:"
            " shorten or remove some",
            field=field,
        )
    return kept


def size_of(attributes: Attributes) -> int:
    """Returns the bytes of a customer's attributes as JSON."""
    return len(_show_json({name: value for name, value in attributes.items() if not name.startswith(OWN)}).encode())


def engaged(
    old: Attributes, *, network: str, handle: str, kind: str, observe_time: datetime, count: int
) -> dict[str, Value]:
    """Returns the attributes after `count` more engagements; the arguments describe the newest.

    Only the newest engagement changes the handle, the kind and the time; each one counts.
    """
    before, last_time = old.get(f"{OWN}engagement_count", 0.0), old.get(f"{OWN}last_engagement_time", "")
    assert isinstance(before, int | float)
    assert isinstance(last_time, str)
    new: dict[str, Value] = {**old, f"{OWN}engagement_count": float(before + count)}
    # One form and one zone, so that the order of the texts is the order of the times.
    time_text = observe_time.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    if time_text >= last_time:
        new |= {
            f"{OWN}network": network,
            f"{OWN}handle": handle,
            f"{OWN}last_engagement_kind": kind,
            f"{OWN}last_engagement_time": time_text,
        }
    return new


def changed_names(old: Attributes, new: Attributes) -> list[str]:
    """Returns the names whose value was added, removed or replaced, sorted."""
    return sorted(name for name in old.keys() | new.keys() if not same(old.get(name), new.get(name)))


def _value_of(name: str, value: object, field: str) -> Value | None:
    if not NAME.fullmatch(name):
        problem = "an attribute's name is a letter or _ and up to 63 letters, digits, _ . : or -"
    elif name.startswith(OWN):
        problem = f"names that begin with {OWN} are kept for what was seen on networks; give the attribute another name"
    elif value is None:
        return None
    elif not (problem := problem_of(value)):
        assert isinstance(value, str | int | float | list)
        return normal_value(value)
    else:
        problem = f"{name}: {problem}"
    raise InvalidProfile(problem, field=f"{field}.{name[:80]}")


def _problem_of_text(text: str) -> str:
    if len(text) > MAX_TEXT:
        return f"give a text of at most {MAX_TEXT} characters"
    return "leave the character U+0000 out; no text can hold it" if "\x00" in text else ""


def _is_double(number: float) -> bool:
    try:
        return math.isfinite(number)
    except OverflowError:  # a whole number beyond every double
        return False


def _count(attributes: Attributes) -> int:
    return sum(not name.startswith(OWN) for name in attributes) if len(attributes) > MAX_ATTRIBUTES else len(attributes)
