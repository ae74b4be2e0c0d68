"""A profile's attributes: flat facts by name, and what it means to change them. Pure.

A value is a text, a finite number, a boolean or a list of texts. Values of different types are never the same, not
even `1` and `true`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime

from regie_chassis.errors import Invalid

MOST = 200
LONGEST_TEXT = 1_000  # characters
LONGEST_LIST = 100
LONGEST_EXTERNAL_ID = 500  # characters
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.:-]{0,63}")

Value = str | int | float | bool | list[str]
Attributes = Mapping[str, Value]


class InvalidProfile(Invalid):
    """A profile has a wrong external id, or an attribute of the wrong form."""


def kind_of(value: object) -> str:
    """Returns text, number, boolean or list; empty for what is no value at all."""
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, str):
        return "text"
    if isinstance(value, int | float):
        return "number" if math.isfinite(value) else ""
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return "list"
    return ""


def same(one: object, other: object) -> bool:
    """True when two values have the same type and are equal."""
    return kind_of(one) == kind_of(other) and one == other


def problem_of(value: object) -> str:
    """Returns what is wrong with a value, in a sentence; empty when nothing is."""
    kind = kind_of(value)
    if not kind:
        return "give a text, a finite number, true or false, or a list of texts"
    if isinstance(value, list) and len(value) > LONGEST_LIST:
        return f"give at most {LONGEST_LIST} texts"
    texts = value if isinstance(value, list) else [value] if isinstance(value, str) else []
    if any(len(one) > LONGEST_TEXT for one in texts):
        return f"give a text of at most {LONGEST_TEXT} characters"
    if any("\x00" in one for one in texts):
        return "leave the character U+0000 out; no text can hold it"
    return ""


def check_external_id(external_id: str, field: str) -> None:
    """Raises InvalidProfile."""
    if not external_id or len(external_id) > LONGEST_EXTERNAL_ID or not external_id.isprintable():
        raise InvalidProfile(
            f"an external id has 1 to {LONGEST_EXTERNAL_ID} printable characters; give another", field=field
        )


def check_patch(patch: Mapping[str, object], field: str) -> None:
    """Raises InvalidProfile for a name or a value of the wrong form; null is right, it removes."""
    if len(patch) > MOST:
        raise InvalidProfile(f"a profile has at most {MOST} attributes; give fewer", field=field)
    for name, value in patch.items():
        place = f"{field}.{name[:80]}"
        if not NAME.fullmatch(name):
            raise InvalidProfile(
                "an attribute's name is a letter or _ and up to 63 letters, digits, _ . : or -", field=place
            )
        if value is not None and (problem := problem_of(value)):
            raise InvalidProfile(f"{name}: {problem}", field=place)


def merged(old: Attributes, patch: Mapping[str, Value | None], field: str = "attributes") -> dict[str, Value]:
    """Returns the attributes after a patch: null removes, others are set. Raises InvalidProfile for too many."""
    new = {**old, **patch}
    kept = {name: value for name, value in new.items() if value is not None}
    if len(kept) > MOST:
        raise InvalidProfile(f"the profile would have {len(kept)} attributes; at most {MOST} are kept", field=field)
    return kept


def engaged(
    old: Attributes, *, network: str, handle: str, kind: str, observe_time: datetime, count: int
) -> dict[str, Value]:
    """Returns the attributes after `count` more engagements, the newest of which is described.

    Only a newer engagement than the last known one changes who and what it was; each one counts.
    """
    before, known = old.get("engagement_count"), old.get("last_engagement_time")
    counted = before if isinstance(before, int | float) and not isinstance(before, bool) else 0
    new: dict[str, Value] = {**old, "engagement_count": counted + count}
    # One form and one zone, so that the order of the texts is the order of the times.
    shown = observe_time.astimezone(UTC).isoformat(timespec="microseconds")
    if not isinstance(known, str) or shown >= known:
        new |= {
            "network": network,
            "handle": handle,
            "last_engagement_kind": kind,
            "last_engagement_time": shown,
        }
    return new


def changed_names(old: Attributes, new: Attributes) -> list[str]:
    """Returns the names whose value was added, removed or replaced, sorted."""
    return sorted(name for name in old.keys() | new.keys() if not same(old.get(name), new.get(name)))
