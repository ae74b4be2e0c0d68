"""Rules as Python functions. A rule is compiled once into closures, which judge a profile in a tenth of the time that
walking its tree takes. The meaning of a rule stands in `model`.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from regie_audience.attributes import Attributes, Value
from regie_audience.rules.instants import instant_of
from regie_audience.rules.model import All, AnyOf, Comparison, Not, Rule

Matcher = Callable[[Attributes], bool]
_Test = Callable[[Value | None], bool]
_Order = Callable[[Any, Any], bool]
_IN_ORDER: dict[str, _Order] = {
    "lt": operator.lt,
    "le": operator.le,
    "gt": operator.gt,
    "ge": operator.ge,
}


def matcher_of(rule: Rule) -> Matcher:
    """Returns the rule as a function of a profile's attributes."""
    match rule:
        case Comparison():
            return _on_attribute(rule.attribute, _test_of(rule))
        case All(rules):
            return _all_of(tuple(map(matcher_of, rules)))
        case AnyOf(rules):
            return _any_of(tuple(map(matcher_of, rules)))
        case Not(inner):
            matches = matcher_of(inner)
            return lambda attributes: not matches(attributes)


def matches(rule: Rule, attributes: Attributes) -> bool:
    """True when a profile with these attributes meets the rule."""
    return matcher_of(rule)(attributes)


def _on_attribute(name: str, test: _Test) -> Matcher:
    return lambda attributes: test(attributes.get(name))


def _all_of(matchers: tuple[Matcher, ...]) -> Matcher:
    def test(attributes: Attributes) -> bool:
        for matches in matchers:  # noqa: SIM110  # all() over a generator takes twice as long
            if not matches(attributes):
                return False
        return True

    return test


def _any_of(matchers: tuple[Matcher, ...]) -> Matcher:
    def test(attributes: Attributes) -> bool:
        for matches in matchers:  # noqa: SIM110  # as above
            if matches(attributes):
                return True
        return False

    return test


def _test_of(rule: Comparison) -> _Test:
    value = rule.value
    match rule.operator:
        case "present":
            return lambda actual: actual is not None
        case "absent":
            return lambda actual: actual is None
        case "eq" | "ne":
            assert value is not None
            return _equal(value) if rule.operator == "eq" else _negated(_equal(value))
        case "in":
            assert isinstance(value, list)
            return _one_of(value)
        case "contains":
            assert isinstance(value, str)
            return lambda actual: isinstance(actual, str | list) and value in actual
    assert isinstance(value, str | int | float)
    return _ordered(_IN_ORDER[rule.operator], value)


def _negated(test: _Test) -> _Test:
    return lambda actual: not test(actual)


def _equal(value: Value) -> _Test:
    if isinstance(value, str):
        instant = instant_of(value)
        if instant is not None:
            return lambda actual: isinstance(actual, str) and instant_of(actual) == instant
        return lambda actual: actual == value
    if isinstance(value, bool):
        return lambda actual: actual is value
    if isinstance(value, list):
        return lambda actual: actual == value
    number = float(value)
    return lambda actual: isinstance(actual, int | float) and not isinstance(actual, bool) and float(actual) == number


def _one_of(values: list[str]) -> _Test:
    instants = frozenset(instant for one in values if (instant := instant_of(one)) is not None)
    texts = frozenset(one for one in values if instant_of(one) is None)
    if not instants:
        return lambda actual: isinstance(actual, str) and actual in texts
    return lambda actual: isinstance(actual, str) and (actual in texts or instant_of(actual) in instants)


def _ordered(compare: _Order, value: float | str) -> _Test:
    if not isinstance(value, str):
        number = float(value)
        return lambda actual: (
            isinstance(actual, int | float) and not isinstance(actual, bool) and compare(float(actual), number)
        )
    bound = instant_of(value)
    if bound is None:
        return lambda actual: isinstance(actual, str) and compare(actual, value)

    def test(actual: Value | None) -> bool:
        instant = instant_of(actual) if isinstance(actual, str) else None
        return instant is not None and compare(instant, bound)

    return test
