"""Conditions on a profile's attributes, as data. Pure.

The meaning of a rule, in Python (`matching`) and in SQL (`sql`) alike:

- An absent attribute matches `absent` and `ne` alone.
- A comparison across types is false, and its `ne` is true: the text "34" is no number, so `gt 30` does not match it.
- Numbers compare as doubles. Booleans and lists know only equality; a list's order counts.
- Texts that are dates or times (`instants`) compare as instants with one another, whatever their offsets. Other texts
  compare by code point, upper and lower case differ, and "9" comes after "30".
- `in`: a text that equals one of the listed texts.
- `contains`: the list has the text, or the text has the substring.
- `not` is true where its condition is false, also for an absent attribute.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from unicodedata import normalize

from regie_chassis.boundary.errors import Invalid

from regie_audience.attributes import NAME, Value, kind_of, normal_value, problem_of

MAX_DEPTH = 10
MAX_NODES = 100  # comparisons, and the groups around them
MAX_LIST = 50
MAX_SIZE = 64 * 1024  # bytes as JSON; a change reads the rules of up to 200 segments
ORDER = {"lt": "<", "le": "<=", "gt": ">", "ge": ">="}
EXISTENCE = frozenset({"present", "absent"})
TAKES = {
    **dict.fromkeys(("eq", "ne"), frozenset({"text", "number", "boolean", "list"})),
    **dict.fromkeys(ORDER, frozenset({"text", "number"})),
    "in": frozenset({"list"}),
    "contains": frozenset({"text"}),
}


class InvalidRule(Invalid):
    """A rule has a wrong form; the field is the path of the node that is wrong."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """One attribute compared with one value; `present` and `absent` have none."""

    attribute: str
    operator: str
    value: Value | None = None


@dataclass(frozen=True, slots=True)
class All:
    """All of these hold."""

    rules: tuple[Rule, ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """At least one of these holds."""

    rules: tuple[Rule, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """This does not hold."""

    rule: Rule


Rule = Comparison | All | AnyOf | Not


def parse_rule(data: object, path: str = "rule") -> Rule:
    """Returns the rule of `{"comparison": {…}}`, `{"all": […]}`, `{"any": […]}` or `{"not": …}`. Raises InvalidRule."""
    return _Reader().read(data, path, 1)


def parse_new_rule(data: object, path: str = "rule") -> Rule:
    """Reads a rule that somebody gives, as `parse_rule` does; also refuses one that takes too many bytes, and an `in`
    that nothing can match."""
    rule = parse_rule(data, path)
    for place, comparison in comparisons(rule, path):
        if comparison.operator == "in" and not comparison.value:
            raise InvalidRule("in takes a list of at least one text; give one", field=f"{place}.value")
    size = len(json.dumps(dump_rule(rule), ensure_ascii=False).encode())
    if size > MAX_SIZE:
        raise InvalidRule(
            f"the rule takes {size:,} bytes; at most {MAX_SIZE:,} are kept: shorten its values", field=path
        )
    return rule


def dump_rule(rule: Rule) -> dict[str, object]:
    """Returns the data that `parse_rule` takes."""
    match rule:
        case Comparison(attribute, operator, value):
            return {"comparison": {"attribute": attribute, "operator": operator, "value": value}}
        case All(rules):
            return {"all": [dump_rule(one) for one in rules]}
        case AnyOf(rules):
            return {"any": [dump_rule(one) for one in rules]}
        case Not(inner):
            return {"not": dump_rule(inner)}


def comparisons(rule: Rule, path: str = "rule") -> Iterator[tuple[str, Comparison]]:
    """Yields every comparison of a rule with its path, as `parse_rule` names it."""
    match rule:
        case Comparison():
            yield f"{path}.comparison", rule
        case All(rules) | AnyOf(rules):
            form = "all" if isinstance(rule, All) else "any"
            for index, one in enumerate(rules):
                yield from comparisons(one, f"{path}.{form}[{index}]")
        case Not(inner):
            yield from comparisons(inner, f"{path}.not")


def attributes_of(rule: Rule) -> frozenset[str]:
    """Returns the attributes that a rule reads; a change of others never changes its result."""
    return frozenset(comparison.attribute for _, comparison in comparisons(rule))


def cost_of(rule: Rule) -> int:
    """Returns how many conditions are looked at, at most, to judge one profile."""
    return sum(1 for _ in comparisons(rule))


class _Reader:
    def __init__(self) -> None:
        self._nodes = 0

    def read(self, data: object, path: str, depth: int) -> Rule:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise InvalidRule(
                f"a rule has at most {MAX_NODES} conditions, with each all, any and not counted as one; give fewer",
                field=path,
            )
        if depth > MAX_DEPTH:
            raise InvalidRule(f"a rule is at most {MAX_DEPTH} deep; flatten this one", field=path)
        if not isinstance(data, Mapping) or len(data) != 1:
            raise InvalidRule("a condition is one of comparison, all, any or not", field=path)
        ((form, inner),) = data.items()
        place = f"{path}.{str(form)[:80]}"
        match form:
            case "comparison":
                return _comparison(inner, place)
            case "all":
                return All(self._rules(inner, place, depth))
            case "any":
                return AnyOf(self._rules(inner, place, depth))
            case "not":
                return Not(self.read(inner, place, depth + 1))
        raise InvalidRule("a condition is one of comparison, all, any or not", field=path)

    def _rules(self, data: object, path: str, depth: int) -> tuple[Rule, ...]:
        if not isinstance(data, list) or not 1 <= len(data) <= MAX_LIST:
            raise InvalidRule(f"give 1 to {MAX_LIST} conditions", field=path)
        return tuple(self.read(one, f"{path}[{index}]", depth + 1) for index, one in enumerate(data))


def _comparison(data: object, path: str) -> Comparison:
    if not isinstance(data, Mapping):
        raise InvalidRule("a comparison has an attribute, an operator and a value", field=path)
    attribute, operator, value = data.get("attribute"), data.get("operator"), data.get("value")
    if not isinstance(attribute, str) or not NAME.fullmatch(attribute):
        raise InvalidRule("give the name of an attribute", field=f"{path}.attribute")
    if not isinstance(operator, str) or operator not in TAKES.keys() | EXISTENCE:
        operators = ", ".join([*TAKES, *sorted(EXISTENCE)])
        raise InvalidRule(f"give one of {operators}", field=f"{path}.operator")
    if operator in EXISTENCE:
        return Comparison(attribute, operator)
    if kind_of(value) not in TAKES[operator]:
        kinds = " or ".join(sorted(TAKES[operator]))
        raise InvalidRule(f"{operator} takes a {kinds}", field=f"{path}.value")
    if problem := problem_of(value):
        raise InvalidRule(problem, field=f"{path}.value")
    assert isinstance(value, str | int | float | list)
    return Comparison(attribute, operator, _kept(operator, value))


def _kept(operator: str, value: Value) -> Value:
    # Blanks at the ends of a substring mean something; at the ends of a whole text they are never kept.
    return normalize("NFC", value) if operator == "contains" and isinstance(value, str) else normal_value(value)
