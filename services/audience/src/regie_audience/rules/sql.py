"""Rules as SQL conditions on the jsonb column `attributes`. The meaning of a rule stands in `model`."""

from __future__ import annotations

import json
import re

from regie_audience.rules.instants import FORM, instant_of
from regie_audience.rules.model import ORDER, All, AnyOf, Comparison, Not, Rule


def compile_sql(rule: Rule) -> tuple[str, dict[str, object]]:
    """Returns the rule as a condition that is never null, and its bound values."""
    compiler = _Compiler()
    return compiler.condition(rule), compiler.values


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
        stored, as_text = f"(attributes -> {name})", f"(attributes ->> {name})"
        match rule.operator:
            case "present":
                return f"({stored} IS NOT NULL)"
            case "absent":
                return f"({stored} IS NULL)"
            case "eq":
                return self._equal(stored, as_text, rule.value)
            case "ne":
                return f"(NOT {self._equal(stored, as_text, rule.value)})"
            case "in":
                assert isinstance(rule.value, list)
                return self._one_of(stored, as_text, rule.value)
            case "contains":
                return self._contains(stored, as_text, rule)
        return self._ordered(stored, as_text, rule)

    def _equal(self, stored: str, as_text: str, value: object) -> str:
        if isinstance(value, str) and instant_of(value) is not None:
            return self._instant(stored, as_text, "=", value)
        return f"({stored} IS NOT DISTINCT FROM {self._bind(json.dumps(value), 'jsonb')})"

    def _one_of(self, stored: str, as_text: str, values: list[str]) -> str:
        texts = self._bind([one for one in values if instant_of(one) is None], "text[]")
        instants = self._bind([_CUT.sub(r"\1", one) for one in values if instant_of(one) is not None], "text[]")
        listed = f"{_instant(as_text)} = ANY(CAST({instants} AS timestamptz[]))"
        return (
            f"(CASE WHEN jsonb_typeof({stored}) IS DISTINCT FROM 'string' THEN false"
            f" WHEN {as_text} = ANY({texts}) THEN true WHEN {as_text} ~ {self._form()} THEN {listed} ELSE false END)"
        )

    # CASE below, because only it fixes what is evaluated when.

    def _contains(self, stored: str, as_text: str, rule: Comparison) -> str:
        value = self._bind(rule.value, "text")
        return (
            f"(CASE jsonb_typeof({stored}) WHEN 'array' THEN jsonb_exists({stored}, {value})"
            f" WHEN 'string' THEN strpos({as_text}, {value}) > 0 ELSE false END)"
        )

    def _ordered(self, stored: str, as_text: str, rule: Comparison) -> str:
        sign, value = ORDER[rule.operator], rule.value
        if not isinstance(value, str):
            # Both are the shortest decimals of doubles, whose order is the order of the doubles.
            bound = f"CAST({self._bind(json.dumps(value), 'jsonb')} AS numeric)"
            compared = f"CAST({stored} AS numeric) {sign} {bound}"
            return f"(CASE jsonb_typeof({stored}) WHEN 'number' THEN {compared} ELSE false END)"
        if instant_of(value) is not None:
            return self._instant(stored, as_text, sign, value)
        compared = f'{as_text} COLLATE "C" {sign} {self._bind(value, "text")} COLLATE "C"'
        return f"(CASE jsonb_typeof({stored}) WHEN 'string' THEN {compared} ELSE false END)"

    def _instant(self, stored: str, as_text: str, sign: str, value: str) -> str:
        compared = f"{_instant(as_text)} {sign} {_instant(self._bind(value, 'text'))}"
        is_instant = f"jsonb_typeof({stored}) = 'string' AND {as_text} ~ {self._form()}"
        return f"(CASE WHEN {is_instant} THEN {compared} ELSE false END)"

    def _form(self) -> str:
        self.values["instant_form"] = f"^{FORM}$"
        return "CAST(:instant_form AS text)"


# PostgreSQL would round what is beyond microseconds. A date is read in the session's zone, which is UTC.
_CUT = re.compile("([.][0-9]{6})[0-9]+")


def _instant(as_text: str) -> str:
    return f"CAST(regexp_replace({as_text}, '{_CUT.pattern}', '\\1') AS timestamptz)"
