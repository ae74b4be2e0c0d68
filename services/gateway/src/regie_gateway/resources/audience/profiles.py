"""Profiles: the people whom posts are for."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

from fastapi import Request, Response
from google.protobuf.struct_pb2 import Struct, Value
from pydantic import BeforeValidator, ConfigDict, Discriminator, Field, Tag, WithJsonSchema
from regie.audience.v1 import profiles_service_pb2 as pb
from regie_chassis.validation import refusal

from regie_gateway.http.context import request_context
from regie_gateway.http.fields import Body, Page, ProfileId, View, show_time, without_default
from regie_gateway.http.operations import Operations
from regie_gateway.http.responses import json_response

operations = Operations("profiles")

LARGEST = 2**53  # beyond, a double does not tell neighbours apart


def _exact(number: Any) -> Any:
    if isinstance(number, int) and abs(number) > LARGEST:
        raise refusal("give whole numbers up to 2^53, or a text")
    return number


# The limits are those that the audience holds (tests/policy/test_limits.py).
Text = Annotated[str, Field(max_length=1_000)]
Number = Annotated[int | float, BeforeValidator(_exact), WithJsonSchema({"type": "number"})]
KINDS: Mapping[type, str] = {str: "(text)", bool: "(boolean)", int: "(number)", float: "(number)", list: "(list)"}


def _kind(value: Any) -> str | None:
    return KINDS.get(type(value))


# The kind of a value chooses the branch, so that the branch that was meant says what is wrong with it.
Fact = Annotated[
    Annotated[Text, Tag("(text)")]
    | Annotated[bool, Tag("(boolean)")]
    | Annotated[Number, Tag("(number)")]
    | Annotated[list[Text], Field(max_length=100), Tag("(list)")],
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
    """A person to create or to merge into what is known."""

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
async def upsert_profiles(request: Request, body: UpsertProfiles) -> Response:
    context = request_context(request)
    profiles = [
        pb.ProfileInput(external_id=one.external_id, attributes=_struct(one.attributes)) for one in body.profiles
    ]
    asked = pb.UpsertProfilesRequest(request_id=context.request_id, profiles=profiles)
    answered = await context.call(context.backends.profiles.UpsertProfiles, asked)
    return json_response({"profiles": [show_profile(profile) for profile in answered.profiles]})


@operations.add(
    "GET",
    "/v1/profiles",
    scope="profiles:read",
    summary="List profiles",
    description="The newest first.",
    answer=ProfilePage,
)
async def list_profiles(request: Request, page: Page) -> Response:
    context = request_context(request)
    asked = pb.ListProfilesRequest(page_size=page.page_size, page_token=page.page_token)
    answered = await context.call(context.backends.profiles.ListProfiles, asked)
    profiles = [show_profile(profile) for profile in answered.profiles]
    return json_response({"profiles": profiles, "next_page_token": answered.next_page_token})


@operations.add(
    "GET",
    "/v1/profiles/{profile_id}",
    scope="profiles:read",
    summary="Get a profile",
    description="A person with the attributes that are known.",
    answer=ProfileView,
)
async def get_profile(request: Request, profile_id: ProfileId) -> Response:
    context = request_context(request)
    answered = await context.call(context.backends.profiles.GetProfile, pb.GetProfileRequest(profile_id=profile_id))
    return json_response(show_profile(answered.profile))


def show_profile(profile: pb.Profile) -> dict[str, Any]:
    """Returns a profile as JSON."""
    return {
        "profile_id": profile.profile_id,
        "external_id": profile.external_id,
        "attributes": {name: show_value(value) for name, value in profile.attributes.fields.items()},
        "create_time": show_time(profile.create_time),
        "update_time": show_time(profile.update_time),
    }


def show_value(value: Value) -> Any:
    """Returns a value as JSON; whole numbers as integers."""
    kind = value.WhichOneof("kind")
    if kind == "number_value":
        number = value.number_value
        return int(number) if number.is_integer() and abs(number) <= LARGEST else number
    if kind == "list_value":
        return [show_value(item) for item in value.list_value.values]
    if kind == "struct_value":
        return {name: show_value(item) for name, item in value.struct_value.fields.items()}
    return None if kind in {None, "null_value"} else getattr(value, kind)


def _struct(attributes: dict[str, Any]) -> Struct:
    struct = Struct()
    struct.update(attributes)
    return struct
