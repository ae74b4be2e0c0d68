"""Conditions on a profile's attributes, in three forms that mean the same: data, a Python test, and SQL. Pure.

- An absent attribute matches `absent` and `ne` alone.
- A comparison across types is false, and its `ne` is true.
- Numbers compare numerically, texts by code point. Booleans and lists know only equality; a list's order counts.
- `contains`: the list has the text, or the text has the substring; upper and lower case differ.
- `not` turns around whatever its condition says, also of an absent attribute.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from regie_chassis.errors import Invalid

from regie_audience.attributes import NAME, Attributes, Value, kind_of, problem_of, same

DEEPEST = 10
MOST_NODES = 100
LONGEST_LIST = 50
ORDER = {"lt": "<", "le": "<=", "gt": ">", "ge": ">="}
EXISTENCE = frozenset({"present", "absent"})
TAKES = {
    **dict.fromkeys(("eq", "ne"), frozenset({"text", "number", "boolean", "list"})),
    **dict.fromkeys(ORDER, frozenset({"text", "number"})),
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


def read(data: object, path: str = "rule") -> Rule:
    """Reads a rule from its data: {"comparison": {…}}, {"all": […]}, {"any": […]} or {"not": …}. Raises InvalidRule."""
    return _Reader().read(data, path, 1)


def show(rule: Rule) -> dict[str, object]:
    """Returns the data that `read` reads."""
    match rule:
        case Comparison(attribute, operator, value):
            return {"comparison": {"attribute": attribute, "operator": operator, "value": value}}
        case All(rules):
            return {"all": [show(one) for one in rules]}
        case AnyOf(rules):
            return {"any": [show(one) for one in rules]}
        case Not(inner):
            return {"not": show(inner)}


def matches(rule: Rule, attributes: Attributes) -> bool:
    """True when a profile with these attributes meets the rule."""
    match rule:
        case Comparison():
            return _compare(rule, attributes.get(rule.attribute))
        case All(rules):
            return all(matches(one, attributes) for one in rules)
        case AnyOf(rules):
            return any(matches(one, attributes) for one in rules)
        case Not(inner):
            return not matches(inner, attributes)


def compile_sql(rule: Rule) -> tuple[str, dict[str, object]]:
    """Returns the rule as a condition on the jsonb column `attributes`, never null, and its bound values."""
    compiler = _Compiler()
    return compiler.condition(rule), compiler.values


class _Reader:
    def __init__(self) -> None:
        self._nodes = 0

    def read(self, data: object, path: str, depth: int) -> Rule:
        self._nodes += 1
        if self._nodes > MOST_NODES:
            raise InvalidRule(f"a rule has at most {MOST_NODES} conditions; give fewer", field=path)
        if depth > DEEPEST:
            raise InvalidRule(f"a rule is at most {DEEPEST} deep; flatten this one", field=path)
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
        if not isinstance(data, list) or not 1 <= len(data) <= LONGEST_LIST:
            raise InvalidRule(f"give 1 to {LONGEST_LIST} conditions", field=path)
        return tuple(self.read(one, f"{path}[{index}]", depth + 1) for index, one in enumerate(data))


def _comparison(data: object, path: str) -> Comparison:
    if not isinstance(data, Mapping):
        raise InvalidRule("a comparison has an attribute, an operator and a value", field=path)
    attribute, operator, value = data.get("attribute"), data.get("operator"), data.get("value")
    if not isinstance(attribute, str) or not NAME.fullmatch(attribute):
        raise InvalidRule("give the name of an attribute", field=f"{path}.attribute")
    if not isinstance(operator, str) or operator not in TAKES.keys() | EXISTENCE:
        known = ", ".join([*TAKES, *sorted(EXISTENCE)])
        raise InvalidRule(f"give one of {known}", field=f"{path}.operator")
    if operator in EXISTENCE:
        return Comparison(attribute, operator)
    if kind_of(value) not in TAKES[operator]:
        wanted = " or ".join(sorted(TAKES[operator]))
        raise InvalidRule(f"{operator} takes a {wanted}", field=f"{path}.value")
    if problem := problem_of(value):
        raise InvalidRule(problem, field=f"{path}.value")
    assert isinstance(value, str | int | float | list)
    return Comparison(attribute, operator, value)


def _compare(rule: Comparison, found: Value | None) -> bool:
    match rule.operator:
        case "present":
            return found is not None
        case "absent":
            return found is None
        case "eq":
            return same(found, rule.value)
        case "ne":
            return not same(found, rule.value)
        case "contains":
            return isinstance(found, str | list) and isinstance(rule.value, str) and rule.value in found
    return kind_of(found) == kind_of(rule.value) and _in_order(rule.operator, found, rule.value)


def _in_order(operator: str, found: object, value: object) -> bool:
    before = bool(found < value)  # type: ignore[operator]  # both are texts, or both are numbers
    return {"lt": before, "le": before or found == value, "gt": not before and found != value, "ge": not before}[
        operator
    ]


class _Compiler:
    def __init__(self) -> None:
        self.values: dict[str, object] = {}

    def _bind(self, value: object, kind: str) -> str:
        name = f"rule_{len(self.values)}"
        self.values[name] = value
        return f"CAST(:{name} AS {kind})"

    def condition(self, rule: Rule) -> str:
        match rule:
            case Comparison():
                return self._comparison(rule)
            case All(rules):
                return f"({' AND '.join(self.condition(one) for one in rules)})"
            case AnyOf(rules):
                return f"({' OR '.join(self.condition(one) for one in rules)})"
            case Not(inner):
                return f"(NOT {self.condition(inner)})"

    def _comparison(self, rule: Comparison) -> str:
        name = self._bind(rule.attribute, "text")
        found = f"(attributes -> {name})"
        match rule.operator:
            case "present":
                return f"({found} IS NOT NULL)"
            case "absent":
                return f"({found} IS NULL)"
            case "eq" | "ne":
                verb = "IS NOT DISTINCT FROM" if rule.operator == "eq" else "IS DISTINCT FROM"
                return f"({found} {verb} {self._bind(json.dumps(rule.value), 'jsonb')})"
            case "contains":
                return self._contains(found, f"(attributes ->> {name})", rule)
        return self._ordered(found, f"(attributes ->> {name})", rule)

    def _contains(self, found: str, shown: str, rule: Comparison) -> str:
        value = self._bind(rule.value, "text")
        # CASE, because only it fixes what is evaluated when.
        return (
            f"(CASE jsonb_typeof({found}) WHEN 'array' THEN jsonb_exists({found}, {value})"
            f" WHEN 'string' THEN strpos({shown}, {value}) > 0 ELSE false END)"
        )

    def _ordered(self, found: str, shown: str, rule: Comparison) -> str:
        sign = ORDER[rule.operator]
        if kind_of(rule.value) == "number":
            value = f"CAST({self._bind(json.dumps(rule.value), 'jsonb')} AS numeric)"
            comparison, kind = f"CAST({found} AS numeric) {sign} {value}", "number"
        else:
            value = self._bind(rule.value, "text")
            comparison, kind = f'{shown} COLLATE "C" {sign} {value} COLLATE "C"', "string"
        return f"(CASE jsonb_typeof({found}) WHEN '{kind}' THEN {comparison} ELSE false END)"
