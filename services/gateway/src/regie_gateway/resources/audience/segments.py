"""Segments: named rules, and the profiles that match them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field
from regie.audience.v1 import segments_service_pb2 as pb

from regie_gateway.http.context import RequestContext
from regie_gateway.http.fields import WHOLE, Body, Page, SegmentId, View, without_default
from regie_gateway.http.operations import Operations
from regie_gateway.mapping.compiled import compile_view
from regie_gateway.mapping.overrides import From
from regie_gateway.resources.audience.profiles import ProfilePage, ProfileView
from regie_gateway.resources.audience.rules import BoundedRule, Rule, rule_message, rule_value

operations = Operations("segments", "Named rules, and the profiles that match them.")

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


def _rule(segment: pb.Segment) -> dict[str, Any]:
    return rule_value(segment.rule)


class SegmentView(View):
    """A segment with its size."""

    segment_id: str
    name: str
    rule: Annotated[Rule, From(_rule)]
    state: Literal["filling", "active"] = Field(description="`filling` until every profile that matches is a member.")
    member_count: int = Field(description="Of the members so far while the state is filling.")
    create_time: datetime | None


class DeletedSegment(View):
    """The id of the segment that is gone."""

    segment_id: str


class SegmentPage(View):
    """A page of segments."""

    segments: list[SegmentView]
    next_page_token: str


def _pointer(warning: pb.RuleWarning) -> str:
    """Turns the service's path of a comparison into a JSON Pointer: rule.all[0].comparison → /rule/all/0."""
    steps = warning.field.removesuffix(".comparison").replace("[", ".").replace("]", "").split(".")
    return "".join(f"/{step}" for step in steps)


class RuleWarningView(View):
    """A comparison that probably does not mean what it should."""

    field: Annotated[str, From(_pointer)] = Field(description="A JSON Pointer into the request.")
    message: str


class PreviewView(View):
    """The profiles that a rule would match."""

    count: int
    sample: list[ProfileView] | None = Field(description="Null for a key without the scope profiles:read.")
    warnings: list[RuleWarningView] = Field(description="Of comparisons whose type never meets the stored one.")


_to_preview = compile_view(pb.PreviewSegmentResponse, PreviewView)


@operations.add(
    "POST",
    "/v1/segments",
    scope="segments:write",
    summary="Create a segment, which is filled afterwards",
    description="Names a rule. Profiles that match it become members while the segment is filled, and from then on.",
    answer=SegmentView,
    status=201,
    location="/v1/segments/{segment_id}",
    body="json",
)
async def create_segment(context: RequestContext, body: CreateSegment) -> pb.Segment:
    request = pb.CreateSegmentRequest(request_id=context.request_id, name=body.name, rule=rule_message(body.rule))
    return (await context.call(context.backends.segments.CreateSegment, request)).segment


@operations.add(
    "GET",
    "/v1/segments",
    scope="segments:read",
    summary="List segments",
    description="The newest first, with their sizes.",
    answer=SegmentPage,
)
async def list_segments(context: RequestContext, page: Page) -> pb.ListSegmentsResponse:
    request = pb.ListSegmentsRequest(page_size=page.page_size, page_token=page.page_token)
    return await context.call(context.backends.segments.ListSegments, request)


@operations.add(
    "POST",
    "/v1/segments/preview",
    scope="segments:read",
    summary="Count and sample the profiles that a rule would match",
    description="Stores nothing. The sample is shown to keys that hold profiles:read, too; the count to all.",
    answer=PreviewView,
    body="json",
)
async def preview_segment(context: RequestContext, body: PreviewSegment) -> dict[str, Any]:
    may_read = "profiles:read" in context.key.scopes
    sample_size = body.sample_size if may_read else 1
    request = pb.PreviewSegmentRequest(rule=rule_message(body.rule), sample_size=sample_size)
    preview = _to_preview(await context.call(context.backends.segments.PreviewSegment, request))
    return preview if may_read else {**preview, "sample": None}


@operations.add(
    "GET",
    "/v1/segments/{segment_id}",
    scope="segments:read",
    summary="Get a segment",
    description="Its rule and how many profiles match it.",
    answer=SegmentView,
)
async def get_segment(context: RequestContext, segment_id: SegmentId) -> pb.Segment:
    request = pb.GetSegmentRequest(segment_id=segment_id)
    return (await context.call(context.backends.segments.GetSegment, request)).segment


@operations.add(
    "DELETE",
    "/v1/segments/{segment_id}",
    scope="segments:write",
    summary="Delete a segment",
    description="Its members stay profiles, and its place is free for another segment.",
    answer=DeletedSegment,
)
async def delete_segment(context: RequestContext, segment_id: SegmentId) -> dict[str, Any]:
    request = pb.DeleteSegmentRequest(request_id=context.request_id, segment_id=segment_id)
    await context.call(context.backends.segments.DeleteSegment, request)
    return {"segment_id": segment_id}


@operations.add(
    "GET",
    "/v1/segments/{segment_id}/members",
    scope="profiles:read",
    summary="List the profiles in a segment",
    description="The profiles that match the rule now.",
    answer=ProfilePage,
)
async def list_segment_members(
    context: RequestContext, segment_id: SegmentId, page: Page
) -> pb.ListSegmentMembersResponse:
    request = pb.ListSegmentMembersRequest(segment_id=segment_id, page_size=page.page_size, page_token=page.page_token)
    return await context.call(context.backends.segments.ListSegmentMembers, request)
