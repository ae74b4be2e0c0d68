"""A rule means the same in Python and in SQL, and a wrong one is told where it is wrong."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from regie_audience.rules import All, AnyOf, Comparison, InvalidRule, Not, Rule, compile_sql, matches, read, show
from regie_chassis.database import Database
from sqlalchemy import text

NAMES = ["age", "city", "tags"]

# Few and awkward values, so that rules and profiles meet often.
letters = st.text(alphabet="aAzZ é\U0001f600%_'\\", max_size=3)
numbers = st.one_of(
    st.sampled_from([0.0, -0.0, 1.0, 0.1, 1e308, -1e-300, 2.0**53]), st.floats(allow_nan=False, allow_infinity=False)
)
lists = st.lists(letters, max_size=3)
values = st.one_of(letters, numbers, st.booleans(), lists)
attributes = st.dictionaries(st.sampled_from(NAMES), values, max_size=3)
comparisons = st.one_of(
    st.builds(Comparison, st.sampled_from(NAMES), st.sampled_from(["eq", "ne"]), values),
    st.builds(Comparison, st.sampled_from(NAMES), st.sampled_from(["lt", "le", "gt", "ge"]), letters | numbers),
    st.builds(Comparison, st.sampled_from(NAMES), st.just("contains"), letters),
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


async def _in_sql(database: Database, rule: Rule, people: list[dict[str, object]]) -> list[bool]:
    condition, bound = compile_sql(rule)
    async with database.reading() as session:
        rows = await session.execute(
            text(
                f"SELECT {condition} FROM unnest(CAST(:people AS text[])) WITH ORDINALITY AS given (person, place),"
                " LATERAL (SELECT CAST(person AS jsonb) AS attributes) AS read ORDER BY place"
            ),
            {"people": [json.dumps(one) for one in people], **bound},
        )
        return list(rows.scalars())


@given(rule=some_rules, people=st.lists(attributes, min_size=1, max_size=8))
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_python_and_sql_agree(database: Database, rule: Rule, people: list[dict[str, object]]) -> None:
    assert await _in_sql(database, rule, people) == [matches(rule, one) for one in people]


@given(rule=some_rules)
@settings(max_examples=100, deadline=None)
def test_a_rule_survives_its_data(rule: Rule) -> None:
    assert read(json.loads(json.dumps(show(rule)))) == rule


@pytest.mark.parametrize(
    ("operator", "value", "found", "expected"),
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
    ],
)
async def test_the_semantics_are_as_written(
    database: Database, operator: str, value: object, found: object, expected: bool
) -> None:
    rule = read({"comparison": {"attribute": "age", "operator": operator, "value": value}})
    person = {} if found is None else {"age": found}

    assert matches(rule, person) is expected
    assert await _in_sql(database, rule, [person]) == [expected]
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
        ({"any": [_comparison(), {"not": _comparison(operator="x")}]}, "rule.any[1].not.comparison.operator"),
    ],
)
def test_a_wrong_rule_is_told_where_it_is_wrong(data: object, path: str) -> None:
    with pytest.raises(InvalidRule) as refused:
        read(data)
    assert refused.value.field == path


def test_a_rule_at_its_limits_is_right() -> None:
    assert read(_deep(10))
    assert read({"all": [{"any": [_comparison()] * 48}, {"any": [_comparison()] * 49}]})
