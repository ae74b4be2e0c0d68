"""The gateway's document states the limits that the services behind hold."""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path
from typing import Any, get_args

import pytest
from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper
from pydantic import BaseModel, TypeAdapter
from regie.publisher.events.v1 import publisher_events_pb2
from regie.publisher.v1 import channels_service_pb2 as channels_pb
from regie.publisher.v1 import deliveries_service_pb2 as deliveries_pb
from regie_audience import attributes, engagements, profiles, rules, segments
from regie_chassis import rpc
from regie_chassis.enums import numbers_of
from regie_gateway import idempotency, reads, workspaces
from regie_gateway.rest import timeline
from regie_gateway.rest.channels import CONNECT_DEADLINE, Network
from regie_gateway.rest.delivery_json import DeliveryState, FailureKind
from regie_gateway.rest.post_json import (
    AttachmentBody,
    CreatePost,
    PartBody,
    PostState,
    TextVariantBody,
    ThreadVariantBody,
    VariantStateName,
    Visibility,
)
from regie_gateway.rest.post_metrics import Metric
from regie_gateway.rest.profiles import Fact, ProfileBody, UpsertProfiles
from regie_gateway.rest.rules import DEEPEST, MOST_NODES, AllRule, AnyRule, ComparisonRule, Operator
from regie_gateway.rest.segments import CreateSegment
from regie_metrics.observations import METRICS
from regie_publisher.channels.channel import ChannelState
from regie_publisher.channels.connecting import CONNECT_WITHIN
from regie_publisher.connectors import connector
from regie_publisher.connectors.connector import FailureKind as ConnectorFailureKind
from regie_publisher.deliveries.delivery import Cause, State
from regie_publisher.deliveries.queries import SegmentState
from regie_scheduler import content, policies, states
from regie_scheduler.rpc.posts import READ_BATCH


def limit(kind: type[BaseModel], name: str, keyword: str) -> Any:
    """Returns a limit on a field, also where the field may be null."""
    field = kind.model_json_schema()["properties"][name]
    return next(form[keyword] for form in (field, *field.get("anyOf", ())) if keyword in form)


def test_the_document_offers_the_states_that_are_reached() -> None:
    # Those that wait for approvals exist in the contract alone.
    reached = {after for changes in states.TRANSITIONS.values() for after in changes.values()} | states.ROLLED_UP
    waiting = {states.PostState.IN_REVIEW, states.PostState.APPROVED, states.PostState.EXPIRED}
    assert set(get_args(PostState)) == (reached | {states.PostState.DRAFT}) - waiting
    shown = {"waiting" if state is states.VariantState.PLANNED else str(state) for state in states.VariantState}
    assert set(get_args(VariantStateName)) == shown


def test_the_document_offers_the_publishers_own_lists() -> None:
    assert set(get_args(DeliveryState)) == set(State)
    assert set(get_args(FailureKind)) == set(ConnectorFailureKind)
    sources = [path.read_text() for path in Path(connector.__file__).parent.rglob("*.py")]
    connectors = {name for source in sources for name in re.findall(r"^class (\w+)Connector:", source, re.MULTILINE)}
    assert set(get_args(Network)) == {name.lower() for name in connectors}


@pytest.mark.parametrize(
    ("contract", "owned"),
    [
        (channels_pb.ChannelState, ChannelState),
        (deliveries_pb.DeliveryState, State),
        (deliveries_pb.DeliverySegmentState, SegmentState),
        (deliveries_pb.DeliveryCause, Cause),
        (publisher_events_pb2.FailureKind, ConnectorFailureKind),
    ],
)
def test_the_publishers_contract_has_the_lists_of_its_code(contract: EnumTypeWrapper, owned: type[StrEnum]) -> None:
    assert {name for name in numbers_of(contract.DESCRIPTOR) if name} == {one.name.lower() for one in owned}


@pytest.mark.parametrize(
    ("kind", "name", "keyword", "held"),
    [
        (CreatePost, "title", "maxLength", content.MOST_TITLE),
        (CreatePost, "variants", "maxItems", content.MOST_VARIANTS),
        (ThreadVariantBody, "segments", "maxItems", content.MOST_SEGMENTS),
        (TextVariantBody, "text", "maxLength", content.MOST_TEXT),
        (TextVariantBody, "language", "maxLength", content.MOST_LANGUAGE),
        (PartBody, "text", "maxLength", content.MOST_TEXT),
        (PartBody, "attachments", "maxItems", content.MOST_ATTACHMENTS),
        (AttachmentBody, "alt_text", "maxLength", content.MOST_ALT_TEXT),
        (UpsertProfiles, "profiles", "maxItems", profiles.MOST_AT_ONCE),
        (ProfileBody, "external_id", "maxLength", attributes.LONGEST_EXTERNAL_ID),
        (ProfileBody, "attributes", "maxProperties", attributes.MOST),
        (CreateSegment, "name", "maxLength", segments.LONGEST_NAME),
    ],
)
def test_the_document_states_the_limit_that_is_held(kind: type[BaseModel], name: str, keyword: str, held: int) -> None:
    assert limit(kind, name, keyword) == held


def test_the_document_offers_each_owners_closed_list() -> None:
    assert set(get_args(Visibility)) == content.VISIBILITIES - {""} == set(connector.VISIBILITIES)
    assert set(get_args(Metric)) == METRICS
    assert set(get_args(Operator)) == set(rules.TAKES)
    assert set(connector.ENGAGEMENT_KINDS) == engagements.KINDS


def test_a_fact_that_two_services_need_is_the_same_in_both() -> None:
    assert policies.MISSED_AFTER == workspaces.MISSED_AFTER
    assert policies.LONGEST_MISSED_AFTER == workspaces.LONGEST_MISSED_AFTER
    assert reads.MOST == READ_BATCH
    # A person's cancel is no summary of what became of the deliveries.
    assert states.ROLLED_UP - {states.PostState.CANCELLED} == timeline.ROLLED_UP


def test_who_waits_for_another_waits_longer() -> None:
    assert CONNECT_WITHIN.total_seconds() < CONNECT_DEADLINE < rpc.LONGEST_DEADLINE
    assert idempotency.LEASE.total_seconds() > CONNECT_DEADLINE


def test_the_document_states_the_limits_of_an_attribute() -> None:
    forms = TypeAdapter(Fact).json_schema()["oneOf"]
    assert forms == ComparisonRule.model_json_schema()["properties"]["value"]["oneOf"]
    texts = next(form for form in forms if form["type"] == "string")
    lists = next(form for form in forms if form["type"] == "array")
    assert texts["maxLength"] == lists["items"]["maxLength"] == attributes.LONGEST_TEXT
    assert lists["maxItems"] == attributes.LONGEST_LIST


def test_the_document_states_the_form_of_an_attributes_name() -> None:
    form = f"^{attributes.NAME.pattern}$"
    schema = ProfileBody.model_json_schema()["properties"]["attributes"]
    assert (list(schema["patternProperties"]), schema["additionalProperties"]) == ([form], False)
    assert limit(ComparisonRule, "attribute", "pattern") == form


@pytest.mark.parametrize(("kind", "name"), [(AllRule, "all"), (AnyRule, "any")])
def test_the_document_states_the_size_of_a_rule(kind: type[BaseModel], name: str) -> None:
    schema = kind.model_json_schema()["$defs"][kind.__name__]["properties"][name]
    assert (schema["minItems"], schema["maxItems"]) == (1, rules.LONGEST_LIST)
    assert (DEEPEST, MOST_NODES) == (rules.DEEPEST, rules.MOST_NODES)
