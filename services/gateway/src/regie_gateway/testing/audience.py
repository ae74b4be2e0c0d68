"""An audience service with memory; its segments match everybody."""

# ruff: noqa: N802, ARG002  # the names and parameters are those of the generated servicer

from __future__ import annotations

from typing import Any

from regie.audience.v1 import audience_service_pb2 as pb
from regie.audience.v1.audience_service_pb2_grpc import AudienceServiceServicer
from regie_chassis.errors import NotFound
from regie_chassis.ids import PROFILE, SEGMENT, new_id, show_id

from regie_gateway.testing.memory import Memory, timestamp


class ProfileNotFound(NotFound):
    """No such profile."""


class SegmentNotFound(NotFound):
    """No such segment."""


class FakeAudience(AudienceServiceServicer):
    """Keeps profiles and segments in memory."""

    def __init__(self) -> None:
        self.memory = Memory()

    async def UpsertProfiles(self, request: pb.UpsertProfilesRequest, context: Any) -> pb.UpsertProfilesResponse:
        def act() -> pb.UpsertProfilesResponse:
            profiles = [
                pb.Profile(
                    profile_id=show_id(PROFILE, new_id()),
                    external_id=one.external_id,
                    attributes=one.attributes,
                    create_time=timestamp(),
                    update_time=timestamp(),
                )
                for one in request.profiles
            ]
            for profile in profiles:
                self.memory.put(profile.profile_id, profile)
            return pb.UpsertProfilesResponse(profiles=profiles)

        return await self.memory.once(request, act)

    async def GetProfile(self, request: pb.GetProfileRequest, context: Any) -> pb.GetProfileResponse:
        self.memory.see(request)
        profile = self.memory.get(request.profile_id)
        if profile is None:
            raise ProfileNotFound("there is no such profile in this workspace", field="profile_id")
        return pb.GetProfileResponse(profile=profile)

    async def ListProfiles(self, request: pb.ListProfilesRequest, context: Any) -> pb.ListProfilesResponse:
        self.memory.see(request)
        return pb.ListProfilesResponse(profiles=self.memory.all(pb.Profile)[: request.page_size])

    async def CreateSegment(self, request: pb.CreateSegmentRequest, context: Any) -> pb.CreateSegmentResponse:
        def act() -> pb.CreateSegmentResponse:
            segment = pb.Segment(
                segment_id=show_id(SEGMENT, new_id()),
                name=request.name,
                rule=request.rule,
                state="active",
                member_count=len(self.memory.all(pb.Profile)),
                create_time=timestamp(),
            )
            self.memory.put(segment.segment_id, segment)
            return pb.CreateSegmentResponse(segment=segment)

        return await self.memory.once(request, act)

    async def GetSegment(self, request: pb.GetSegmentRequest, context: Any) -> pb.GetSegmentResponse:
        self.memory.see(request)
        return pb.GetSegmentResponse(segment=self._find(request.segment_id))

    async def DeleteSegment(self, request: pb.DeleteSegmentRequest, context: Any) -> pb.DeleteSegmentResponse:
        def act() -> pb.DeleteSegmentResponse:
            self._find(request.segment_id)  # and it stays, for tests that call every operation with one thing of a kind
            return pb.DeleteSegmentResponse()

        return await self.memory.once(request, act)

    async def ListSegments(self, request: pb.ListSegmentsRequest, context: Any) -> pb.ListSegmentsResponse:
        self.memory.see(request)
        return pb.ListSegmentsResponse(segments=self.memory.all(pb.Segment)[: request.page_size])

    async def PreviewSegment(self, request: pb.PreviewSegmentRequest, context: Any) -> pb.PreviewSegmentResponse:
        self.memory.see(request)
        profiles = self.memory.all(pb.Profile)
        warnings = [pb.RuleWarning(field="rule.all[1].not.comparison", message="odd")] if not profiles else []
        return pb.PreviewSegmentResponse(count=len(profiles), sample=profiles[: request.sample_size], warnings=warnings)

    async def ListSegmentMembers(
        self, request: pb.ListSegmentMembersRequest, context: Any
    ) -> pb.ListSegmentMembersResponse:
        self.memory.see(request)
        self._find(request.segment_id)
        return pb.ListSegmentMembersResponse(profiles=self.memory.all(pb.Profile)[: request.page_size])

    def _find(self, segment_id: str) -> pb.Segment:
        segment = self.memory.get(segment_id)
        if segment is None:
            raise SegmentNotFound("there is no such segment in this workspace", field="segment_id")
        assert isinstance(segment, pb.Segment)
        return segment
