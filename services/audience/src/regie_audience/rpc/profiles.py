"""ProfilesService: message → use case → message."""

from __future__ import annotations

from regie.audience.v1 import profiles_service_pb2 as pb
from regie.audience.v1.profiles_service_pb2_grpc import ProfilesServiceServicer
from regie.ids.v1.prefixes import PROFILE
from regie_chassis.boundary.ids import new_id, parse_id
from regie_chassis.boundary.rpc import Context, caller
from regie_chassis.data.database import Database
from regie_chassis.process.clock import Clock

from regie_audience.profiles import changes, queries
from regie_audience.protobuf import attributes_data, profile_message
from regie_audience.turns import Turns

UPSERTS_AT_ONCE = 4  # of a workspace, of the ten connections that a process has


class ProfilesServicer(ProfilesServiceServicer):
    """Serves the caller's workspace alone."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._upserts = Turns(of_one=UPSERTS_AT_ONCE)

    async def UpsertProfiles(self, request: pb.UpsertProfilesRequest, context: Context) -> pb.UpsertProfilesResponse:
        inputs = [
            changes.ProfileInput(new_id(), one.external_id, attributes_data(one.attributes)) for one in request.profiles
        ]
        workspace_id = caller().workspace_id
        async with self._upserts.turn(workspace_id), self._database.transaction() as session:
            upserted = await changes.upsert_profiles(
                session, workspace_id=workspace_id, inputs=inputs, now=self._clock.now()
            )
        return pb.UpsertProfilesResponse(profiles=map(profile_message, upserted))

    async def GetProfile(self, request: pb.GetProfileRequest, context: Context) -> pb.GetProfileResponse:
        profile_id = parse_id(PROFILE, request.profile_id, "profile_id")
        async with self._database.reading() as session:
            profile = await queries.get_profile(session, workspace_id=caller().workspace_id, profile_id=profile_id)
        return pb.GetProfileResponse(profile=profile_message(profile))

    async def ListProfiles(self, request: pb.ListProfilesRequest, context: Context) -> pb.ListProfilesResponse:
        async with self._database.reading() as session:
            page = await queries.list_profiles(
                session, workspace_id=caller().workspace_id, page_size=request.page_size, page_token=request.page_token
            )
        return pb.ListProfilesResponse(profiles=map(profile_message, page.items), next_page_token=page.next_page_token)
