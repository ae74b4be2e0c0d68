"""Profiles: the people whom posts are for."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

from google.protobuf.struct_pb2 import Struct
from pydantic import BeforeValidator, ConfigDict, Discriminator, Field, Tag, WithJsonSchema
from regie.audience.v1 import profiles_service_pb2 as pb
from regie_chassis.boundary.validation import refusal

from regie_gateway.http.context import RequestContext
from regie_gateway.http.fields import Body, Page, ProfileId, View, without_default
from regie_gateway.http.operations import Operations
from regie_gateway.mapping.values import MAX_EXACT_INTEGER

operations = Operations("profiles", "The people whom posts are for.")


def _exact(number: Any) -> Any:
    if isinstance(number, int) and abs(number) > MAX_EXACT_INTEGER:
        raise refusal("give whole numbers up to 2^53, or a text")
    return number


# The limits are those that the audience holds (tests/policy/test_limits.py).
Text = Annotated[str, Field(max_length=1_000)]
Number = Annotated[int | float, BeforeValidator(_exact), WithJsonSchema({"type": "number"})]
MAX_TEXTS = 100  # in a list
KINDS: Mapping[type, str] = {str: "(text)", bool: "(boolean)", int: "(number)", float: "(number)", list: "(list)"}


def _kind(value: Any) -> str | None:
    return KINDS.get(type(value))


# The kind of a value chooses the branch, so that errors come from the branch that was meant.
Fact = Annotated[
    Annotated[Text, Tag("(text)")]
    | Annotated[bool, Tag("(boolean)")]
    | Annotated[Number, Tag("(number)")]
    | Annotated[list[Text], Field(max_length=MAX_TEXTS), Tag("(list)")],
    Discriminator(
        _kind,
        custom_error_type="fact_kind",
        custom_error_message="give a text, a number, true or false, or a list of texts",
    ),
]
Name = Annotated[str, Field(pattern="^[A-Za-z_][A-Za-z0-9_.:-]{0,63}$")]


def _named_alone(schema: dict[str, Any]) -> None:
    without_default(schema)
    schema["additionalProperties"] = False  # names of another form are refused


class ProfileBody(Body):
    """A person to create, or to merge into the stored profile."""

    external_id: str = Field(min_length=1, max_length=500, description="Your own id of the person.")
    attributes: dict[Name, Fact | None] = Field(
        default={},
        max_length=200,
        description="Attributes to set; null removes one, others stay. Names that begin with regie. cannot be set.",
        json_schema_extra=_named_alone,
    )


class UpsertProfiles(Body):
    """Up to 1,000 people; an external id may appear once."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"profiles": [{"external_id": "crm-17", "attributes": {"city": "Lyon", "age": 34}}]}]
        }
    )

    profiles: list[ProfileBody] = Field(min_length=1, max_length=1000)


class ProfileView(View):
    """A person, as far as the workspace knows."""

    profile_id: str
    external_id: str
    attributes: dict[str, Any]
    create_time: datetime | None
    update_time: datetime | None


class UpsertedProfiles(View):
    """The profiles after the merge, in the order of the request."""

    profiles: list[ProfileView]


class ProfilePage(View):
    """A page of profiles."""

    profiles: list[ProfileView]
    next_page_token: str


@operations.add(
    "POST",
    "/v1/profiles",
    scope="profiles:write",
    summary="Create or merge profiles",
    description="Merged by `external_id`: attributes that are given replace, null removes, others stay.",
    answer=UpsertedProfiles,
    body="json",
    reads="profiles:read",
)
async def upsert_profiles(context: RequestContext, body: UpsertProfiles) -> pb.UpsertProfilesResponse:
    profiles = [
        pb.ProfileInput(external_id=profile.external_id, attributes=_struct(profile.attributes))
        for profile in body.profiles
    ]
    request = pb.UpsertProfilesRequest(request_id=context.request_id, profiles=profiles)
    return await context.call(context.backends.profiles.UpsertProfiles, request)


@operations.add(
    "GET",
    "/v1/profiles",
    scope="profiles:read",
    summary="List profiles",
    description="The newest first.",
    answer=ProfilePage,
)
async def list_profiles(context: RequestContext, page: Page) -> pb.ListProfilesResponse:
    request = pb.ListProfilesRequest(page_size=page.page_size, page_token=page.page_token)
    return await context.call(context.backends.profiles.ListProfiles, request)


@operations.add(
    "GET",
    "/v1/profiles/{profile_id}",
    scope="profiles:read",
    summary="Get a profile",
    description="A person with the stored attributes.",
    answer=ProfileView,
)
async def get_profile(context: RequestContext, profile_id: ProfileId) -> pb.Profile:
    request = pb.GetProfileRequest(profile_id=profile_id)
    return (await context.call(context.backends.profiles.GetProfile, request)).profile


def _struct(attributes: dict[str, Any]) -> Struct:
    struct = Struct()
    struct.update(attributes)
    return struct
