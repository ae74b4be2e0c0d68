"""An audience service with memory; its segments match everybody."""

# ruff: noqa: N802, ARG002  # the names and parameters are those of the generated servicer

from __future__ import annotations

from typing import Any

from regie.audience.v1 import profiles_service_pb2 as profiles_pb
from regie.audience.v1 import segments_service_pb2 as segments_pb
from regie.audience.v1.profiles_service_pb2_grpc import ProfilesServiceServicer
from regie.audience.v1.segments_service_pb2_grpc import SegmentsServiceServicer
from regie.ids.v1.prefixes import PROFILE, SEGMENT
from regie_chassis.boundary.errors import NotFound
from regie_chassis.boundary.ids import new_id, show_id

from regie_gateway.testing.memory import Memory, timestamp


class ProfileNotFound(NotFound):
    """No such profile."""


class SegmentNotFound(NotFound):
    """No such segment."""


class FakeAudience(ProfilesServiceServicer, SegmentsServiceServicer):
    """Keeps profiles and segments in memory."""

    def __init__(self) -> None:
        self.memory = Memory()

    async def UpsertProfiles(
        self, request: profiles_pb.UpsertProfilesRequest, context: Any
    ) -> profiles_pb.UpsertProfilesResponse:
        def act() -> profiles_pb.UpsertProfilesResponse:
            profiles = [
                profiles_pb.Profile(
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
            return profiles_pb.UpsertProfilesResponse(profiles=profiles)

        return await self.memory.once(request, act)

    async def GetProfile(self, request: profiles_pb.GetProfileRequest, context: Any) -> profiles_pb.GetProfileResponse:
        self.memory.see(request)
        profile = self.memory.get(request.profile_id)
        if profile is None:
            raise ProfileNotFound("there is no such profile in this workspace", field="profile_id")
        return profiles_pb.GetProfileResponse(profile=profile)

    async def ListProfiles(
        self, request: profiles_pb.ListProfilesRequest, context: Any
    ) -> profiles_pb.ListProfilesResponse:
        self.memory.see(request)
        return profiles_pb.ListProfilesResponse(profiles=self.memory.all(profiles_pb.Profile)[: request.page_size])

    async def CreateSegment(
        self, request: segments_pb.CreateSegmentRequest, context: Any
    ) -> segments_pb.CreateSegmentResponse:
        def act() -> segments_pb.CreateSegmentResponse:
            segment = segments_pb.Segment(
                segment_id=show_id(SEGMENT, new_id()),
                name=request.name,
                rule=request.rule,
                state=segments_pb.SEGMENT_STATE_ACTIVE,
                member_count=len(self.memory.all(profiles_pb.Profile)),
                create_time=timestamp(),
            )
            self.memory.put(segment.segment_id, segment)
            return segments_pb.CreateSegmentResponse(segment=segment)

        return await self.memory.once(request, act)

    async def GetSegment(self, request: segments_pb.GetSegmentRequest, context: Any) -> segments_pb.GetSegmentResponse:
        self.memory.see(request)
        return segments_pb.GetSegmentResponse(segment=self._find(request.segment_id))

    async def DeleteSegment(
        self, request: segments_pb.DeleteSegmentRequest, context: Any
    ) -> segments_pb.DeleteSegmentResponse:
        def act() -> segments_pb.DeleteSegmentResponse:
            self._find(request.segment_id)  # and it stays, for tests that call every operation with one thing of a kind
            return segments_pb.DeleteSegmentResponse()

        return await self.memory.once(request, act)

    async def ListSegments(
        self, request: segments_pb.ListSegmentsRequest, context: Any
    ) -> segments_pb.ListSegmentsResponse:
        self.memory.see(request)
        return segments_pb.ListSegmentsResponse(segments=self.memory.all(segments_pb.Segment)[: request.page_size])

    async def PreviewSegment(
        self, request: segments_pb.PreviewSegmentRequest, context: Any
    ) -> segments_pb.PreviewSegmentResponse:
        self.memory.see(request)
        profiles = self.memory.all(profiles_pb.Profile)
        warnings = [segments_pb.RuleWarning(field="rule.all[1].not.comparison", message="odd")] if not profiles else []
        return segments_pb.PreviewSegmentResponse(
            count=len(profiles), sample=profiles[: request.sample_size], warnings=warnings
        )

    async def ListSegmentMembers(
        self, request: segments_pb.ListSegmentMembersRequest, context: Any
    ) -> segments_pb.ListSegmentMembersResponse:
        self.memory.see(request)
        self._find(request.segment_id)
        return segments_pb.ListSegmentMembersResponse(
            profiles=self.memory.all(profiles_pb.Profile)[: request.page_size]
        )

    def _find(self, segment_id: str) -> segments_pb.Segment:
        segment = self.memory.get(segment_id)
        if segment is None:
            raise SegmentNotFound("there is no such segment in this workspace", field="segment_id")
        assert isinstance(segment, segments_pb.Segment)
        return segment
