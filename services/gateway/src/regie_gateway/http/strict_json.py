"""JSON from outside, read strictly: text that two readers could understand differently is refused (RFC 7493)."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from typing import Any

import orjson
from regie_chassis.boundary.errors import Invalid

MAX_DEPTH = 64
MAX_INTEGER = 2**63 - 1
_FORBIDDEN = re.compile("[\x00\ud800-\udfff]")


class MalformedJson(Invalid):
    """The body is not JSON as RFC 7493 wants it."""


def parse(body: bytes) -> Any:
    """Returns the value. Raises MalformedJson for broken text, repeated names, NUL, lone surrogates, NaN,
    numbers beyond 64 bits and more than MAX_DEPTH levels."""
    try:
        value = json.loads(body.decode(), object_pairs_hook=_object, parse_constant=_constant, parse_int=_integer)
    except RecursionError as error:
        raise MalformedJson(f"the body is nested deeper than {MAX_DEPTH} levels") from error
    except UnicodeDecodeError as error:
        raise MalformedJson("the body is not UTF-8") from error
    except json.JSONDecodeError as error:
        raise MalformedJson(f"the body is not JSON: {error.msg} at character {error.pos}") from error
    _check(value)
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise MalformedJson("an object in the body has the same name twice")
    return members


def _constant(name: str) -> Any:
    raise MalformedJson(f"{name} is not a JSON number")


def _integer(digits: str) -> int:
    if len(digits) > 20 or not -MAX_INTEGER - 1 <= int(digits) <= MAX_INTEGER:
        raise MalformedJson("a number in the body does not fit into 64 bits")
    return int(digits)


def canonical(value: Any) -> bytes:
    """Returns the same bytes for equal values: the order of names, blanks and 1.0 for 1 make no difference."""
    return orjson.dumps(_plain(value), option=orjson.OPT_SORT_KEYS)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) <= 2**53 else value


def _check(value: Any) -> None:
    level = [value]
    for depth in range(MAX_DEPTH + 1):
        if depth == MAX_DEPTH and any(isinstance(item, dict | list) for item in level):
            break
        level = [inner for item in level for inner in _inner(item)]
        if not level:
            return
    raise MalformedJson(f"the body is nested deeper than {MAX_DEPTH} levels")


def _inner(item: Any) -> Iterable[Any]:
    """Checks one value and returns those inside of it; names count as values."""
    if isinstance(item, str) and _FORBIDDEN.search(item):
        raise MalformedJson("a text in the body holds NUL or half of a surrogate pair")
    if isinstance(item, float) and math.isinf(item):
        raise MalformedJson("a number in the body is too large")
    if isinstance(item, dict):
        return [*item, *item.values()]
    return item if isinstance(item, list) else ()
