"""SegmentsService: message → use case → message."""

from __future__ import annotations

from regie.audience.v1 import segments_service_pb2 as pb
from regie.audience.v1.segments_service_pb2_grpc import SegmentsServiceServicer
from regie.ids.v1.prefixes import SEGMENT
from regie_chassis.boundary.ids import new_id, parse_id
from regie_chassis.boundary.rpc import Context, caller
from regie_chassis.data.database import Database
from regie_chassis.process.clock import Clock

from regie_audience.memberships.work import SegmentWork
from regie_audience.protobuf import profile_message, rule_data, segment_message
from regie_audience.rules.model import parse_new_rule
from regie_audience.segments import lifecycle, queries
from regie_audience.segments.previews import preview_segment, preview_turns


class SegmentsServicer(SegmentsServiceServicer):
    """Serves the caller's workspace alone."""

    def __init__(self, database: Database, clock: Clock, *, work: SegmentWork) -> None:
        self._database = database
        self._clock = clock
        self._work = work
        self._previews = preview_turns()

    async def CreateSegment(self, request: pb.CreateSegmentRequest, context: Context) -> pb.CreateSegmentResponse:
        rule = parse_new_rule(rule_data(request.rule))
        async with self._database.transaction() as session:
            segment = await lifecycle.create_segment(
                session,
                segment_id=new_id(),
                workspace_id=caller().workspace_id,
                request_id=request.request_id,
                name=request.name,
                rule=rule,
                now=self._clock.now(),
            )
        self._work.wake.set()
        return pb.CreateSegmentResponse(segment=segment_message(segment))

    async def DeleteSegment(self, request: pb.DeleteSegmentRequest, context: Context) -> pb.DeleteSegmentResponse:
        segment_id = parse_id(SEGMENT, request.segment_id, "segment_id")
        async with self._database.transaction() as session:
            await lifecycle.delete_segment(
                session, workspace_id=caller().workspace_id, segment_id=segment_id, now=self._clock.now()
            )
        self._work.wake.set()
        return pb.DeleteSegmentResponse()

    async def GetSegment(self, request: pb.GetSegmentRequest, context: Context) -> pb.GetSegmentResponse:
        segment_id = parse_id(SEGMENT, request.segment_id, "segment_id")
        async with self._database.reading() as session:
            segment = await queries.get_segment(session, workspace_id=caller().workspace_id, segment_id=segment_id)
        return pb.GetSegmentResponse(segment=segment_message(segment))

    async def ListSegments(self, request: pb.ListSegmentsRequest, context: Context) -> pb.ListSegmentsResponse:
        async with self._database.reading() as session:
            page = await queries.list_segments(
                session, workspace_id=caller().workspace_id, page_size=request.page_size, page_token=request.page_token
            )
        return pb.ListSegmentsResponse(segments=map(segment_message, page.items), next_page_token=page.next_page_token)

    async def PreviewSegment(self, request: pb.PreviewSegmentRequest, context: Context) -> pb.PreviewSegmentResponse:
        rule = parse_new_rule(rule_data(request.rule))
        workspace_id = caller().workspace_id
        async with self._previews.turn(workspace_id), self._database.transaction() as session:
            preview = await preview_segment(
                session, workspace_id=workspace_id, rule=rule, sample_size=request.sample_size
            )
        return pb.PreviewSegmentResponse(
            count=preview.count,
            sample=map(profile_message, preview.sample),
            warnings=[pb.RuleWarning(field=warning.path, message=warning.message) for warning in preview.warnings],
        )

    async def ListSegmentMembers(
        self, request: pb.ListSegmentMembersRequest, context: Context
    ) -> pb.ListSegmentMembersResponse:
        segment_id = parse_id(SEGMENT, request.segment_id, "segment_id")
        async with self._database.reading() as session:
            page = await queries.list_segment_members(
                session,
                workspace_id=caller().workspace_id,
                segment_id=segment_id,
                page_size=request.page_size,
                page_token=request.page_token,
            )
        return pb.ListSegmentMembersResponse(
            profiles=map(profile_message, page.items), next_page_token=page.next_page_token
        )
