"""Segments: named rules and whom they match."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import Request, Response
from pydantic import ConfigDict, Field
from regie.audience.v1 import segments_service_pb2 as pb

from regie_gateway.http.context import request_context
from regie_gateway.http.fields import WHOLE, Body, Page, SegmentId, View, show_time, without_default
from regie_gateway.http.operations import Operations
from regie_gateway.http.responses import json_response
from regie_gateway.resources.audience.profiles import ProfilePage, ProfileView, show_profile
from regie_gateway.resources.audience.rules import BoundedRule, Rule, rule_message, show_rule

operations = Operations("segments")

EXAMPLE_RULE: dict[str, Any] = {"all": [{"attribute": "city", "operator": "eq", "value": "Lyon"}]}


class CreateSegment(Body):
    """A named rule."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "Lyon", "rule": EXAMPLE_RULE}]})

    name: str = Field(min_length=1, max_length=200)
    rule: BoundedRule


class PreviewSegment(Body):
    """A rule to try."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"rule": EXAMPLE_RULE, "sample_size": 3}]})

    rule: BoundedRule
    sample_size: Annotated[int, Field(ge=1, le=50), WHOLE] = Field(
        default=10, description="How many profiles to show at most; 10 when absent.", json_schema_extra=without_default
    )


class SegmentView(View):
    """A segment with its size."""

    segment_id: str
    name: str
    rule: Rule
    state: Literal["filling", "active"] = Field(description="Whether everybody who matches is in it yet.")
    member_count: int = Field(description="Of those found so far while the state is filling.")
    create_time: datetime | None


class DeletedSegment(View):
    """The id of the segment that is gone."""

    segment_id: str


class SegmentPage(View):
    """A page of segments."""

    segments: list[SegmentView]
    next_page_token: str


class RuleWarningView(View):
    """A comparison that probably does not say what it should."""

    field: str = Field(description="A JSON Pointer into the request.")
    message: str


class PreviewView(View):
    """Whom a rule would match."""

    count: int
    sample: list[ProfileView] | None = Field(description="Null for a key without the scope profiles:read.")
    warnings: list[RuleWarningView] = Field(description="Of comparisons whose type never meets the stored one.")


@operations.add(
    "POST",
    "/v1/segments",
    scope="segments:write",
    summary="Create a segment, which is filled afterwards",
    description="Names a rule. Who matches it becomes a member while the segment is filled, and from then on.",
    answer=SegmentView,
    status=201,
    body="json",
)
async def create_segment(request: Request, body: CreateSegment) -> Response:
    context = request_context(request)
    asked = pb.CreateSegmentRequest(request_id=context.request_id, name=body.name, rule=rule_message(body.rule))
    answered = await context.call(context.backends.segments.CreateSegment, asked)
    shown = show_segment(answered.segment)
    return json_response(shown, status=201, location=f"/v1/segments/{shown['segment_id']}")


@operations.add(
    "GET",
    "/v1/segments",
    scope="segments:read",
    summary="List segments",
    description="The newest first, with their sizes.",
    answer=SegmentPage,
)
async def list_segments(request: Request, page: Page) -> Response:
    context = request_context(request)
    asked = pb.ListSegmentsRequest(page_size=page.page_size, page_token=page.page_token)
    answered = await context.call(context.backends.segments.ListSegments, asked)
    segments = [show_segment(segment) for segment in answered.segments]
    return json_response({"segments": segments, "next_page_token": answered.next_page_token})


@operations.add(
    "POST",
    "/v1/segments/preview",
    scope="segments:read",
    summary="Count and sample whom a rule would match",
    description="Stores nothing. The sample is shown to keys that hold profiles:read, too; the count to all.",
    answer=PreviewView,
    body="json",
)
async def preview_segment(request: Request, body: PreviewSegment) -> Response:
    context = request_context(request)
    may_read = "profiles:read" in context.key.scopes
    asked = pb.PreviewSegmentRequest(rule=rule_message(body.rule), sample_size=body.sample_size if may_read else 1)
    answered = await context.call(context.backends.segments.PreviewSegment, asked)
    sample = [show_profile(profile) for profile in answered.sample] if may_read else None
    warnings = [{"field": _pointer(one.field), "message": one.message} for one in answered.warnings]
    return json_response({"count": answered.count, "sample": sample, "warnings": warnings})


@operations.add(
    "GET",
    "/v1/segments/{segment_id}",
    scope="segments:read",
    summary="Get a segment",
    description="Its rule and how many profiles match it.",
    answer=SegmentView,
)
async def get_segment(request: Request, segment_id: SegmentId) -> Response:
    context = request_context(request)
    answered = await context.call(context.backends.segments.GetSegment, pb.GetSegmentRequest(segment_id=segment_id))
    return json_response(show_segment(answered.segment))


@operations.add(
    "DELETE",
    "/v1/segments/{segment_id}",
    scope="segments:write",
    summary="Delete a segment",
    description="Its members stay profiles, and its place is free for another segment.",
    answer=DeletedSegment,
)
async def delete_segment(request: Request, segment_id: SegmentId) -> Response:
    context = request_context(request)
    asked = pb.DeleteSegmentRequest(request_id=context.request_id, segment_id=segment_id)
    await context.call(context.backends.segments.DeleteSegment, asked)
    return json_response({"segment_id": segment_id})


@operations.add(
    "GET",
    "/v1/segments/{segment_id}/members",
    scope="profiles:read",
    summary="List the profiles in a segment",
    description="Who matches the rule now.",
    answer=ProfilePage,
)
async def list_segment_members(request: Request, segment_id: SegmentId, page: Page) -> Response:
    context = request_context(request)
    asked = pb.ListSegmentMembersRequest(segment_id=segment_id, page_size=page.page_size, page_token=page.page_token)
    answered = await context.call(context.backends.segments.ListSegmentMembers, asked)
    profiles = [show_profile(profile) for profile in answered.profiles]
    return json_response({"profiles": profiles, "next_page_token": answered.next_page_token})


def show_segment(segment: pb.Segment) -> dict[str, Any]:
    """Returns a segment as JSON."""
    return {
        "segment_id": segment.segment_id,
        "name": segment.name,
        "rule": show_rule(segment.rule),
        "state": segment.state,
        "member_count": segment.member_count,
        "create_time": show_time(segment.create_time),
    }


def _pointer(path: str) -> str:
    """Turns the service's path of a comparison into a JSON Pointer: rule.all[0].comparison → /rule/all/0."""
    steps = path.removesuffix(".comparison").replace("[", ".").replace("]", "").split(".")
    return "".join(f"/{step}" for step in steps)
