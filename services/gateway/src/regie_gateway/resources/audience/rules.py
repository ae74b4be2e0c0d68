"""Segment rules between JSON and messages; their size is checked before anything walks into them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from google.protobuf.struct_pb2 import ListValue, Value
from pydantic import BeforeValidator, ConfigDict, Discriminator, Field, Tag, ValidationInfo, field_validator
from regie.audience.v1 import segments_service_pb2 as pb
from regie_chassis.boundary.validation import refusal

from regie_gateway.http.fields import Body
from regie_gateway.mapping.values import json_value
from regie_gateway.resources.audience.profiles import MAX_TEXTS, Fact, Name

MAX_DEPTH = 10
MAX_NODES = 100  # comparisons, and the groups around them
MAX_LIST = 50  # conditions in an `all` or `any`
BOUNDS = (
    f"Nested up to {MAX_DEPTH} levels deep. At most {MAX_NODES} conditions, with each all, any and not counted as one; "
    f"an all or any takes up to {MAX_LIST} of them, and the list of an `in` up to {MAX_TEXTS} texts."
)
Operator = Literal["eq", "ne", "lt", "le", "gt", "ge", "in", "contains"]
Existence = Literal["present", "absent"]
EXISTENCE = frozenset({"present", "absent"})


class ComparisonRule(Body):
    """One attribute compared with one value."""

    attribute: Name
    operator: Operator = Field(
        description=(
            "`eq` and `ne` take any value, `lt le gt ge` a text or a number, `in` a list of 1 to "
            f"{MAX_TEXTS} texts, and `contains` a text: part of a text, or an entry of a list."
        )
    )
    value: Fact

    @field_validator("value")
    @classmethod
    def _not_empty(cls, value: Any, others: ValidationInfo) -> Any:
        if others.data.get("operator") == "in" and value == []:
            raise refusal("in takes a list of at least one text; give one")
        return value


class ExistenceRule(Body):
    """Whether an attribute is there."""

    attribute: Name
    operator: Existence


class AllRule(Body):
    """All of these hold."""

    all: list[Rule] = Field(min_length=1, max_length=MAX_LIST)


class AnyRule(Body):
    """At least one of these holds."""

    any: list[Rule] = Field(min_length=1, max_length=MAX_LIST)


class NotRule(Body):
    """This does not hold."""

    model_config = ConfigDict(title="NotRule")

    not_: Rule = Field(alias="not")


def _form(value: Any) -> str:
    # In brackets, which no field's name has: an error's place is looked up in the body and must not meet a branch.
    names = value if isinstance(value, dict) else {}
    for form in ("all", "any", "not"):
        if form in names:
            return f"({form})"
    return "(existence)" if str(names.get("operator")) in EXISTENCE else "(comparison)"


Rule = Annotated[
    Annotated[ComparisonRule, Tag("(comparison)")]
    | Annotated[ExistenceRule, Tag("(existence)")]
    | Annotated[AllRule, Tag("(all)")]
    | Annotated[AnyRule, Tag("(any)")]
    | Annotated[NotRule, Tag("(not)")],
    Discriminator(_form),
]
RuleBody = ComparisonRule | ExistenceRule | AllRule | AnyRule | NotRule


def _bounded(value: Any) -> Any:
    level, nodes = [value], 0
    for _ in range(MAX_DEPTH):
        nodes += len(level)
        if nodes > MAX_NODES:
            raise refusal(
                f"a rule takes at most {MAX_NODES} conditions, with each all, any and not counted as one; give fewer"
            )
        level = [inner for rule in level for inner in _inner(rule)]
        if not level:
            return value
    raise refusal(f"a rule is nested at most {MAX_DEPTH} levels deep")


def _inner(rule: Any) -> list[Any]:
    if not isinstance(rule, dict):
        return []
    rules: list[Any] = []
    for form in ("all", "any"):
        inner = rule.get(form)
        rules += inner if isinstance(inner, list) else []
    return [*rules, rule["not"]] if "not" in rule else rules


BoundedRule = Annotated[Rule, BeforeValidator(_bounded), Field(description=BOUNDS)]


def rule_message(rule: RuleBody) -> pb.Rule:
    """Returns a bounded rule as a message."""
    if isinstance(rule, AllRule):
        return pb.Rule(all=pb.RuleList(rules=[rule_message(inner) for inner in rule.all]))
    if isinstance(rule, AnyRule):
        return pb.Rule(any=pb.RuleList(rules=[rule_message(inner) for inner in rule.any]))
    if isinstance(rule, NotRule):
        message = pb.Rule()
        getattr(message, "not").CopyFrom(rule_message(rule.not_))
        return message
    comparison = pb.Comparison(attribute=rule.attribute, operator=rule.operator)
    if isinstance(rule, ComparisonRule):
        comparison.value.CopyFrom(_value(rule.value))
    return pb.Rule(comparison=comparison)


def _value(value: str | bool | float | list[str]) -> Value:
    if isinstance(value, bool):
        return Value(bool_value=value)
    if isinstance(value, list):
        return Value(list_value=ListValue(values=[Value(string_value=text) for text in value]))
    return Value(string_value=value) if isinstance(value, str) else Value(number_value=value)


def rule_value(rule: pb.Rule) -> dict[str, Any]:
    """Returns a stored rule as JSON."""
    form = rule.WhichOneof("form")
    if form == "all":
        return {"all": [rule_value(inner) for inner in rule.all.rules]}
    if form == "any":
        return {"any": [rule_value(inner) for inner in rule.any.rules]}
    if form == "not":
        return {"not": rule_value(getattr(rule, "not"))}
    comparison = {"attribute": rule.comparison.attribute, "operator": rule.comparison.operator}
    if rule.comparison.HasField("value"):
        return {**comparison, "value": json_value(rule.comparison.value)}
    return comparison
