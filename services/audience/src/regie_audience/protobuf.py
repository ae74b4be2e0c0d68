"""Profiles, segments and rules between their messages and their own forms."""

from __future__ import annotations

from google.protobuf.struct_pb2 import Struct, Value
from regie.audience.v1 import profiles_service_pb2 as profiles_pb
from regie.audience.v1 import segments_service_pb2 as segments_pb
from regie.ids.v1.prefixes import PROFILE, SEGMENT
from regie_chassis.boundary.ids import show_id
from regie_chassis.boundary.timestamps import timestamp

from regie_audience import attributes
from regie_audience.memberships.states import SegmentState
from regie_audience.profiles.queries import Profile
from regie_audience.rules.model import MAX_DEPTH, All, AnyOf, Comparison, InvalidRule, Not, Rule
from regie_audience.segments.queries import Segment

STATES = {
    SegmentState.FILLING: segments_pb.SEGMENT_STATE_FILLING,
    SegmentState.ACTIVE: segments_pb.SEGMENT_STATE_ACTIVE,
}


def profile_message(profile: Profile) -> profiles_pb.Profile:
    """Returns a profile as its message."""
    facts = Struct()
    facts.update(profile.attributes)
    return profiles_pb.Profile(
        profile_id=show_id(PROFILE, profile.id),
        external_id=profile.external_id,
        attributes=facts,
        create_time=timestamp(profile.create_time),
        update_time=timestamp(profile.update_time),
    )


def segment_message(segment: Segment) -> segments_pb.Segment:
    """Returns a segment as its message."""
    return segments_pb.Segment(
        segment_id=show_id(SEGMENT, segment.id),
        name=segment.name,
        rule=rule_message(segment.rule),
        member_count=segment.member_count,
        state=STATES[segment.state],
        create_time=timestamp(segment.create_time),
    )


def attributes_data(facts: Struct) -> dict[str, object]:
    """Returns attributes as data; the rules of profiles refuse invalid values later."""
    return {name: value_data(value) for name, value in facts.fields.items()}


def value_data(value: Value) -> object:
    """Returns a value as data: null, a number, a text, a boolean or a list; an object becomes an empty one."""
    match value.WhichOneof("kind"):
        case "number_value":
            return value.number_value
        case "string_value":
            return value.string_value
        case "bool_value":
            return value.bool_value
        case "list_value":
            return [one.string_value if one.HasField("string_value") else None for one in value.list_value.values]
        case "struct_value":
            return {}
    return None


def rule_data(rule: segments_pb.Rule, path: str = "rule", depth: int = 1) -> dict[str, object]:
    """Returns a rule as data for `parse_rule`. Raises InvalidRule where it is deeper than any rule may be."""
    if depth > MAX_DEPTH:
        raise InvalidRule(f"a rule is at most {MAX_DEPTH} deep; flatten this one", field=path)
    match rule.WhichOneof("form"):
        case "comparison":
            one = rule.comparison
            value = value_data(one.value) if one.HasField("value") else None
            return {"comparison": {"attribute": one.attribute, "operator": one.operator, "value": value}}
        case "all":
            return {"all": _rules_data(rule.all, f"{path}.all", depth)}
        case "any":
            return {"any": _rules_data(rule.any, f"{path}.any", depth)}
        case "not":
            return {"not": rule_data(getattr(rule, "not"), f"{path}.not", depth + 1)}
    return {}


def rule_message(rule: Rule) -> segments_pb.Rule:
    """Returns a rule as its message."""
    match rule:
        case Comparison(attribute, operator, value):
            comparison = segments_pb.Comparison(attribute=attribute, operator=operator)
            if value is not None:
                comparison.value.CopyFrom(_value(value))
            return segments_pb.Rule(comparison=comparison)
        case All(rules):
            return segments_pb.Rule(all=segments_pb.RuleList(rules=map(rule_message, rules)))
        case AnyOf(rules):
            return segments_pb.Rule(any=segments_pb.RuleList(rules=map(rule_message, rules)))
        case Not(inner):
            turned = segments_pb.Rule()
            getattr(turned, "not").CopyFrom(rule_message(inner))
            return turned


def _rules_data(rules: segments_pb.RuleList, path: str, depth: int) -> list[object]:
    return [rule_data(one, f"{path}[{index}]", depth + 1) for index, one in enumerate(rules.rules)]


def _value(value: attributes.Value) -> Value:
    holder = Struct()
    holder.update({"value": value})
    return holder.fields["value"]
