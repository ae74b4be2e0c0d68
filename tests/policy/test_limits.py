"""The gateway's document states the limits that the services behind hold."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import get_args

import pytest
from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper
from pydantic import BaseModel, TypeAdapter
from regie.audience.v1 import segments_service_pb2 as segments_pb
from regie.publisher.events.v1 import publisher_events_pb2
from regie.publisher.v1 import channels_service_pb2 as channels_pb
from regie.publisher.v1 import deliveries_service_pb2 as deliveries_pb
from regie_audience import attributes, engagements
from regie_audience.memberships.states import SegmentState as AudienceSegmentState
from regie_audience.profiles import changes as profile_changes
from regie_audience.rules import model as rules
from regie_audience.segments import lifecycle
from regie_chassis.boundary import rpc
from regie_chassis.boundary.enums import numbers_of
from regie_gateway import post_loader, workspaces
from regie_gateway.access import idempotency
from regie_gateway.resources.audience.profiles import Fact, ProfileBody, UpsertProfiles
from regie_gateway.resources.audience.rules import MAX_DEPTH, MAX_NODES, AllRule, AnyRule, ComparisonRule, Operator
from regie_gateway.resources.audience.segments import CreateSegment, SegmentView
from regie_gateway.resources.insights.post_metrics import Metric
from regie_gateway.resources.planning import timeline
from regie_gateway.resources.planning.post_bodies import (
    AttachmentBody,
    CreatePost,
    PartBody,
    TextVariantBody,
    ThreadVariantBody,
)
from regie_gateway.resources.planning.post_views import PostState, SegmentState, VariantStateName, Visibility
from regie_gateway.resources.publishing.channels import CONNECT_DEADLINE
from regie_gateway.resources.publishing.deliveries import DeliveryState, FailureKind
from regie_gateway.resources.publishing.media import COMPLETE_DEADLINE
from regie_metrics.observations.ingestion import METRICS
from regie_networks import observation
from regie_networks.content import VISIBILITIES
from regie_networks.errors import FailureKind as ConnectorFailureKind
from regie_networks.registry import NETWORKS
from regie_publisher.channels.channel import ChannelState
from regie_publisher.channels.connecting import CONNECT_WITHIN
from regie_publisher.deliveries.delivery import Cause, State
from regie_publisher.deliveries.queries import SegmentState as DeliverySegmentState
from regie_publisher.media.uploads import COPY_TIMEOUT
from regie_scheduler.policies import workspaces as policies
from regie_scheduler.posts import content, states
from regie_scheduler.rpc.posts import READ_BATCH

ROOT = Path(__file__).parents[2]


def limit(kind: type[BaseModel], name: str, keyword: str) -> object:
    """Returns a limit on a field, also where the field may be null."""
    field = kind.model_json_schema()["properties"][name]
    return next(form[keyword] for form in (field, *field.get("anyOf", ())) if keyword in form)


def test_the_document_offers_the_states_that_are_reached() -> None:
    # Those that wait for approvals exist in the contract alone.
    reached = {after for changes in states.TRANSITIONS.values() for after in changes.values()} | states.FINAL_STATES
    waiting = {states.PostState.IN_REVIEW, states.PostState.APPROVED, states.PostState.EXPIRED}
    assert set(get_args(PostState)) == (reached | {states.PostState.DRAFT}) - waiting
    assert set(get_args(VariantStateName)) == set(states.VariantState)
    assert set(get_args(SegmentState)) == set(states.SegmentState)


def test_the_document_offers_the_publishers_own_lists() -> None:
    assert set(get_args(DeliveryState)) == set(State)
    assert set(get_args(FailureKind)) == set(ConnectorFailureKind)


def test_a_segment_has_the_same_states_in_code_contract_and_document() -> None:
    shown = {state for state in AudienceSegmentState if state is not AudienceSegmentState.DELETING}
    assert {name for name in numbers_of(segments_pb.SegmentState.DESCRIPTOR) if name} == shown
    assert set(get_args(SegmentView.model_fields["state"].annotation)) == shown


def test_networks_report_metrics_that_the_metrics_service_knows() -> None:
    for network in NETWORKS.values():
        assert set(network.metrics) <= METRICS, network.name


@pytest.mark.parametrize(
    ("contract", "owned"),
    [
        (channels_pb.ChannelState, ChannelState),
        (deliveries_pb.DeliveryState, State),
        (deliveries_pb.DeliverySegmentState, DeliverySegmentState),
        (deliveries_pb.DeliveryCause, Cause),
        (publisher_events_pb2.FailureKind, ConnectorFailureKind),
    ],
)
def test_the_publishers_contract_has_the_lists_of_its_code(contract: EnumTypeWrapper, owned: type[StrEnum]) -> None:
    assert {name for name in numbers_of(contract.DESCRIPTOR) if name} == {one.name.lower() for one in owned}


@pytest.mark.parametrize(
    ("kind", "name", "keyword", "held"),
    [
        (CreatePost, "title", "maxLength", content.MAX_TITLE),
        (CreatePost, "variants", "maxItems", content.MAX_VARIANTS),
        (ThreadVariantBody, "segments", "maxItems", content.MAX_SEGMENTS),
        (TextVariantBody, "text", "maxLength", content.MAX_TEXT),
        (TextVariantBody, "language", "maxLength", content.MAX_LANGUAGE),
        (PartBody, "text", "maxLength", content.MAX_TEXT),
        (PartBody, "attachments", "maxItems", content.MAX_ATTACHMENTS),
        (AttachmentBody, "alt_text", "maxLength", content.MAX_ALT_TEXT),
        (UpsertProfiles, "profiles", "maxItems", profile_changes.MAX_PROFILES),
        (ProfileBody, "external_id", "maxLength", attributes.MAX_EXTERNAL_ID),
        (ProfileBody, "attributes", "maxProperties", attributes.MAX_ATTRIBUTES),
        (CreateSegment, "name", "maxLength", lifecycle.MAX_NAME),
    ],
)
def test_the_document_states_the_limit_that_is_held(kind: type[BaseModel], name: str, keyword: str, held: int) -> None:
    assert limit(kind, name, keyword) == held


def test_the_document_offers_each_owners_closed_list() -> None:
    assert set(get_args(Visibility)) == content.VISIBILITIES - {""} == set(VISIBILITIES)
    assert set(get_args(Metric)) == METRICS
    assert set(get_args(Operator)) == set(rules.TAKES)
    assert set(observation.ENGAGEMENT_KINDS) == engagements.KINDS


def test_a_fact_that_two_services_need_is_the_same_in_both() -> None:
    assert policies.MISSED_AFTER == workspaces.MISSED_AFTER
    assert policies.MAX_MISSED_AFTER == workspaces.MAX_MISSED_AFTER
    assert post_loader.MAX_BATCH == READ_BATCH
    # A person's cancel is no summary of what became of the deliveries.
    assert states.FINAL_STATES - {states.PostState.CANCELLED} == timeline.ROLLED_UP


def test_who_waits_for_another_waits_longer() -> None:
    assert CONNECT_WITHIN.total_seconds() < CONNECT_DEADLINE < rpc.MAX_DEADLINE
    assert COPY_TIMEOUT < COMPLETE_DEADLINE < rpc.MAX_DEADLINE
    assert idempotency.LEASE.total_seconds() > max(CONNECT_DEADLINE, COMPLETE_DEADLINE)


def test_the_document_states_the_limits_of_an_attribute() -> None:
    forms = TypeAdapter(Fact).json_schema()["oneOf"]
    assert forms == ComparisonRule.model_json_schema()["properties"]["value"]["oneOf"]
    texts = next(form for form in forms if form["type"] == "string")
    lists = next(form for form in forms if form["type"] == "array")
    assert texts["maxLength"] == lists["items"]["maxLength"] == attributes.MAX_TEXT
    assert lists["maxItems"] == attributes.MAX_LIST


def test_the_document_states_the_form_of_an_attributes_name() -> None:
    form = f"^{attributes.NAME.pattern}$"
    schema = ProfileBody.model_json_schema()["properties"]["attributes"]
    assert (list(schema["patternProperties"]), schema["additionalProperties"]) == ([form], False)
    assert limit(ComparisonRule, "attribute", "pattern") == form


@pytest.mark.parametrize(("kind", "name"), [(AllRule, "all"), (AnyRule, "any")])
def test_the_document_states_the_size_of_a_rule(kind: type[BaseModel], name: str) -> None:
    schema = kind.model_json_schema()["$defs"][kind.__name__]["properties"][name]
    assert (schema["minItems"], schema["maxItems"]) == (1, rules.MAX_LIST)
    assert (MAX_DEPTH, MAX_NODES) == (rules.MAX_DEPTH, rules.MAX_NODES)


def test_the_page_of_the_api_states_the_bounds_of_a_rule() -> None:
    page = " ".join((ROOT / "docs" / "api.md").read_text().split())
    for words in (
        f"up to {rules.MAX_DEPTH} deep",
        f"at most {rules.MAX_NODES} conditions",
        f"an `all` or `any` takes 1 to {rules.MAX_LIST}",
        f"`in` takes a list of 1 to {attributes.MAX_LIST} texts",
    ):
        assert words in page
