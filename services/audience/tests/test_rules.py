"""A rule means the same in Python and in SQL, and the error of a wrong rule names the place."""

from __future__ import annotations

import json
from datetime import date, datetime, timedelta, timezone

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from regie_audience.attributes import Value, kind_of, normal_value, stored
from regie_audience.rules.diagnostics import warn
from regie_audience.rules.instants import instant_of
from regie_audience.rules.matching import matches
from regie_audience.rules.model import (
    All,
    AnyOf,
    Comparison,
    InvalidRule,
    Not,
    Rule,
    dump_rule,
    parse_new_rule,
    parse_rule,
)
from regie_audience.rules.sql import compile_sql
from regie_chassis.data.database import Database
from sqlalchemy import text

NAMES = ["age", "city", "tags"]

# Few and awkward values, so that rules and profiles meet often.
INSTANTS = [
    "2026-03-01",
    "2026-02-29",
    "2024-02-29",
    "2026-03-01T00:00:00Z",
    "2026-03-01t02:00:00+02:00",
    "2026-02-28 22:00:00.5-02:00",
    "2026-03-01T00:30:00+02:00",
    "2026-03-01T00:00:00.000000499Z",
    "2026-03-01T00:00:00.000000999Z",
    "2026-03-01T00:00:00.1234567z",
    "0001-01-01T00:00:00+14:00",
    "9999-12-31T23:59:59.999999-14:00",
    "2026-03-01T00:00:00",
    "2026-03-01T24:00:00Z",
    "2026-03-01T00:00:60Z",
    "0000-01-01",
    "٢٠٢٦-03-01",
]
letters = st.one_of(st.text(alphabet="aAzZ é\U0001f600%_'\\", max_size=3), st.sampled_from(INSTANTS))
numbers = st.one_of(
    st.sampled_from([0.0, -0.0, 1.0, 0.1, 1e308, -1e-300, 2.0**53, 2.0**53 + 2, 1.2345678901234567e20, 5e-324, 30.0]),
    st.integers(-(2**53), 2**53),
    st.floats(allow_nan=False, allow_infinity=False),
)
lists = st.lists(letters, max_size=3)
values = st.one_of(letters, numbers, st.booleans(), lists)
attributes = st.dictionaries(st.sampled_from(NAMES), values, max_size=3)
comparisons = st.one_of(
    st.builds(Comparison, st.sampled_from(NAMES), st.sampled_from(["eq", "ne"]), values),
    st.builds(Comparison, st.sampled_from(NAMES), st.sampled_from(["lt", "le", "gt", "ge"]), letters | numbers),
    st.builds(Comparison, st.sampled_from(NAMES), st.just("contains"), letters),
    st.builds(Comparison, st.sampled_from(NAMES), st.just("in"), lists),
    st.builds(Comparison, st.sampled_from(NAMES), st.sampled_from(["present", "absent"])),
)
some_rules: st.SearchStrategy[Rule] = st.recursive(
    comparisons,
    lambda inner: st.one_of(
        st.builds(Not, inner),
        st.builds(All, st.lists(inner, min_size=1, max_size=3).map(tuple)),
        st.builds(AnyOf, st.lists(inner, min_size=1, max_size=3).map(tuple)),
    ),
    max_leaves=6,
)


Attributes = dict[str, Value]


async def _in_sql(database: Database, rule: Rule, people: list[Attributes]) -> list[tuple[bool, Attributes]]:
    """Returns SQL's verdict on each, and their attributes as the database returns them."""
    condition, bound = compile_sql(rule)
    async with database.reading() as session:
        rows = await session.execute(
            text(
                f"SELECT {condition}, attributes FROM unnest(CAST(:people AS text[])) WITH ORDINALITY"
                " AS given (person, place), LATERAL (SELECT CAST(person AS jsonb) AS attributes) AS read ORDER BY place"
            ),
            {"people": [json.dumps(one) for one in people], **bound},
        )
        return [(row[0], row[1]) for row in rows]


def _kept(given: Attributes) -> Attributes:
    return {name: normal_value(value) for name, value in given.items()}


@given(rule=some_rules, given_people=st.lists(attributes, min_size=1, max_size=8))
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_python_and_sql_agree_before_and_after_the_database(
    database: Database, rule: Rule, given_people: list[Attributes]
) -> None:
    rule, people = parse_rule(json.loads(json.dumps(dump_rule(rule)))), [_kept(one) for one in given_people]
    in_sql = await _in_sql(database, rule, people)

    assert [answer for answer, _ in in_sql] == [matches(rule, one) for one in people]
    assert [answer for answer, _ in in_sql] == [matches(rule, stored(kept)) for _, kept in in_sql]


def test_a_number_stays_the_same_number_on_its_way_through_the_database() -> None:
    rule = parse_rule({"comparison": {"attribute": "n", "operator": "eq", "value": 1.2345678901234567e20}})
    # So jsonb shows this double, without a point.
    assert matches(rule, stored(json.loads('{"n": 123456789012345670000}')))


@pytest.mark.parametrize("number", [10**400, -(10**400), float("inf"), float("nan")])
def test_a_number_that_is_no_double_is_no_value(number: float) -> None:
    assert kind_of(number) == ""
    with pytest.raises(InvalidRule):
        parse_rule({"comparison": {"attribute": "n", "operator": "lt", "value": number}})


zones = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
times = st.datetimes(datetime(2, 1, 1), datetime(9998, 12, 31), timezones=zones)  # noqa: DTZ001  # they get their zones


@given(one=times, other=times)
def test_instants_lie_as_far_apart_as_the_times_that_name_them(one: datetime, other: datetime) -> None:
    first, second = instant_of(one.isoformat()), instant_of(other.isoformat().replace("T", " "))

    assert first is not None
    assert second is not None
    assert first - second == (one - other) // timedelta(microseconds=1)


@given(day=st.dates().map(str) | st.from_regex(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", fullmatch=True))
def test_a_date_is_one_that_the_calendar_has(day: str) -> None:
    try:
        expected = date.fromisoformat(day)
    except ValueError:
        assert instant_of(day) is None
    else:
        assert instant_of(day) == expected.toordinal() * 86_400_000_000


@given(rule=some_rules)
@settings(max_examples=100, deadline=None)
def test_a_rule_survives_its_data(rule: Rule) -> None:
    rule = parse_rule(dump_rule(rule))
    assert parse_rule(json.loads(json.dumps(dump_rule(rule)))) == rule


@pytest.mark.parametrize(
    ("operator", "value", "actual", "expected"),
    [
        ("eq", "a", None, False),
        ("ne", "a", None, True),
        ("lt", 5, None, False),
        ("contains", "a", None, False),
        ("absent", None, None, True),
        ("present", None, None, False),
        ("eq", 1, True, False),
        ("eq", 1, "1", False),
        ("ne", 1, "1", True),
        ("lt", 5, "4", False),
        ("ge", "4", 5, False),
        ("lt", 10, 9, True),
        ("lt", "10", "9", False),
        ("lt", "a", "Z", True),
        ("contains", "b", ["a", "b"], True),
        ("contains", "b", ["ab"], False),
        ("contains", "b", "abc", True),
        ("contains", "B", "abc", False),
        ("eq", ["a", "b"], ["b", "a"], False),
        ("eq", 1.0, 1, True),
        ("gt", 30, "34", False),
        ("gt", "30", "9", True),
        ("ge", "2026-03-01", "2026-03-01T00:30:00+02:00", False),
        ("ge", "2026-03-01", "2026-02-28T23:30:00-01:00", True),
        ("lt", "2026-03-01", "2026-02-28", True),
        ("lt", "2026-03-01", "yesterday", False),
        ("eq", "2026-03-01T00:00:00Z", "2026-03-01T02:00:00+02:00", True),
        ("ne", "2026-03-01T00:00:00Z", "2026-03-01T02:00:00+02:00", False),
        ("eq", "2026-02-30", "2026-02-30", True),
        ("ge", "2026-03-01T00:00:00", "2026-03-01T00:00:00Z", True),
        ("eq", "Caf\u00e9", "Cafe\u0301", True),
        ("eq", "Lyon", " Lyon ", True),
        ("eq", "lyon", "Lyon", False),
        ("in", ["Lyon", "Nice"], "Nice", True),
        ("in", ["Lyon", "Nice"], "nice", False),
        ("in", ["2026-03-01T00:00:00Z", "x"], "2026-03-01", True),
        ("in", [], "x", False),
        ("in", ["x"], ["x"], False),
        ("in", ["x"], None, False),
    ],
)
async def test_the_semantics_are_as_written(
    database: Database, operator: str, value: object, actual: Value | None, expected: bool
) -> None:
    rule = parse_rule({"comparison": {"attribute": "age", "operator": operator, "value": value}})
    person = {} if actual is None else _kept({"age": actual})

    assert matches(rule, person) is expected
    assert [answer for answer, _ in await _in_sql(database, rule, [person])] == [expected]
    assert matches(Not(rule), person) is not expected


def _comparison(**changes: object) -> dict[str, object]:
    return {"comparison": {"attribute": "age", "operator": "eq", "value": 1, **changes}}


def _deep(levels: int) -> dict[str, object]:
    rule: dict[str, object] = _comparison()
    for _ in range(levels - 1):
        rule = {"not": rule}
    return rule


@pytest.mark.parametrize(
    ("data", "path"),
    [
        ({}, "rule"),
        (None, "rule"),
        ({"some": []}, "rule"),
        ({"all": []}, "rule.all"),
        ({"all": [_comparison()] * 51}, "rule.all"),
        ({"all": [{"any": [_comparison()] * 50}] * 2}, "rule.all[1].any[47]"),
        (_deep(11), "rule" + ".not" * 10),
        (_comparison(attribute=""), "rule.comparison.attribute"),
        (_comparison(attribute="a'; --"), "rule.comparison.attribute"),
        (_comparison(operator="like"), "rule.comparison.operator"),
        (_comparison(operator=""), "rule.comparison.operator"),
        (_comparison(value=None), "rule.comparison.value"),
        (_comparison(value=float("nan")), "rule.comparison.value"),
        (_comparison(value={}), "rule.comparison.value"),
        (_comparison(value="a\x00"), "rule.comparison.value"),
        (_comparison(value="a" * 1001), "rule.comparison.value"),
        (_comparison(operator="lt", value=True), "rule.comparison.value"),
        (_comparison(operator="ge", value=["a"]), "rule.comparison.value"),
        (_comparison(operator="contains", value=1), "rule.comparison.value"),
        (_comparison(operator="in", value="a"), "rule.comparison.value"),
        (_comparison(operator="in", value=[1]), "rule.comparison.value"),
        ({"any": [_comparison(), {"not": _comparison(operator="x")}]}, "rule.any[1].not.comparison.operator"),
    ],
)
def test_a_wrong_rule_is_told_where_it_is_wrong(data: object, path: str) -> None:
    with pytest.raises(InvalidRule) as refused:
        parse_rule(data)
    assert refused.value.field == path


def test_an_in_without_texts_is_refused_where_it_is_given_and_read_where_it_is_kept() -> None:
    empty = {"any": [_comparison(), {"not": _comparison(operator="in", value=[])}]}
    with pytest.raises(InvalidRule, match="at least one text") as refused:
        parse_new_rule(empty)
    assert refused.value.field == "rule.any[1].not.comparison.value"
    assert parse_rule(empty)


def test_a_rule_of_many_bytes_is_refused_where_it_is_given_and_read_where_it_is_kept() -> None:
    large = {"any": [_comparison(operator="in", value=["x" * 1_000] * 100)]}

    with pytest.raises(InvalidRule) as refused:
        parse_new_rule(large)
    assert refused.value.field == "rule"
    assert parse_rule(large)


def test_a_rule_at_its_limits_is_right() -> None:
    assert parse_rule(_deep(10))
    assert parse_rule({"all": [{"any": [_comparison()] * 48}, {"any": [_comparison()] * 49}]})


@pytest.mark.parametrize(
    ("comparison", "kinds", "expected"),
    [
        ({"operator": "gt", "value": 30}, {"age": ["text"]}, "age is a text"),
        ({"operator": "gt", "value": "30"}, {"age": ["text"]}, "character by character"),
        ({"operator": "ge", "value": "2026-03-01T10:00:00"}, {"age": ["text"]}, "without an offset"),
        ({"operator": "in", "value": ["x"]}, {"age": ["number", "boolean"]}, "age is a boolean or number"),
        ({"operator": "eq", "value": True}, {}, "none of the newest profiles has the attribute age"),
        ({"operator": "absent"}, {}, ""),
        ({"operator": "present"}, {"age": ["list"]}, ""),
        ({"operator": "contains", "value": "x"}, {"age": ["list"]}, ""),
        ({"operator": "gt", "value": 30}, {"age": ["text", "number"]}, ""),
        ({"operator": "ge", "value": "2026-03-01"}, {"age": ["text"]}, ""),
        ({"operator": "eq", "value": True}, None, ""),
    ],
)
def test_a_comparison_that_cannot_meet_the_stored_type_is_warned_of(
    comparison: dict[str, object], kinds: dict[str, list[str]] | None, expected: str
) -> None:
    rule = parse_rule({"not": {"all": [{"comparison": {"attribute": "age", **comparison}}]}})

    found = warn(rule, None if kinds is None else {name: frozenset(known) for name, known in kinds.items()})

    assert [one.path for one in found] == ["rule.not.all[0].comparison"] * bool(expected)
    assert all(expected in one.message for one in found)
