"""Every RPC: its callers, its responses, and its errors for bad input."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable, Coroutine
from typing import Any
from uuid import UUID

import pytest
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct, Value
from regie.audience.v1 import profiles_service_pb2 as profiles_pb
from regie.audience.v1 import segments_service_pb2 as segments_pb
from regie.ids.v1.prefixes import PROFILE, SEGMENT
from regie_audience.rpc.profiles import UPSERTS_AT_ONCE
from regie_audience.testing import Method
from regie_chassis.boundary.ids import new_id, show_id
from regie_chassis.boundary.rpc import RemoteError, call
from regie_chassis.data.database import Database
from regie_chassis.data.paging import show_token
from regie_local.testing.service_fixtures import Sign
from regie_local.testing.waiting import until
from sqlalchemy import text

Ask = Callable[..., Coroutine[None, None, Any]]
ListRequest = profiles_pb.ListProfilesRequest | segments_pb.ListSegmentsRequest | segments_pb.ListSegmentMembersRequest

ADULT = segments_pb.Rule(
    comparison=segments_pb.Comparison(attribute="age", operator="ge", value=Value(number_value=18))
)


def _struct(**attributes: Any) -> Struct:
    struct = Struct()
    struct.update(attributes)
    return struct


def _input(external_id: str, **attributes: Any) -> profiles_pb.ProfileInput:
    return profiles_pb.ProfileInput(external_id=external_id, attributes=_struct(**attributes))


@pytest.fixture
def ask(method: Method, sign: Sign, workspace_id: UUID) -> Ask:
    """Calls an RPC by its request's name, as a caller of the test's workspace unless another is given."""

    async def run(request: Message, *, workspace: UUID | None = None) -> Any:
        return await call(method(request), request, identity=sign(workspace or workspace_id))

    return run


async def _filled(ask: Ask, segment_id: str, *, workspace: UUID | None = None) -> segments_pb.Segment:
    async def look() -> segments_pb.Segment | None:
        segment = (await ask(segments_pb.GetSegmentRequest(segment_id=segment_id), workspace=workspace)).segment
        return segment if segment.state == segments_pb.SEGMENT_STATE_ACTIVE else None

    found = await until(look)
    assert found is not None
    return found


async def test_profiles_go_in_and_come_out_as_they_were(ask: Ask) -> None:
    inputs = [_input("b", city="Lyon", age=31, vip=True, tags=["x", "y"]), _input("a")]

    made = (await ask(profiles_pb.UpsertProfilesRequest(request_id="r", profiles=inputs))).profiles

    assert [one.external_id for one in made] == ["b", "a"]
    assert made[0].attributes == inputs[0].attributes
    assert made[0].create_time == made[0].update_time
    assert (await ask(profiles_pb.GetProfileRequest(profile_id=made[0].profile_id))).profile == made[0]
    assert list((await ask(profiles_pb.ListProfilesRequest(page_size=5))).profiles) == sorted(
        made, key=lambda one: one.profile_id, reverse=True
    )


async def test_null_removes_an_attribute(ask: Ask) -> None:
    await ask(profiles_pb.UpsertProfilesRequest(profiles=[_input("a", city="Lyon", age=3)]))

    (after,) = (await ask(profiles_pb.UpsertProfilesRequest(profiles=[_input("a", city=None)]))).profiles

    assert after.attributes == _struct(age=3)


async def test_a_segment_is_made_read_listed_previewed_and_its_members_shown(ask: Ask) -> None:
    people = [_input("old", age=40), _input("young", age=3)]
    made = (await ask(profiles_pb.UpsertProfilesRequest(profiles=people))).profiles
    without_city_or_vip = segments_pb.Rule()
    getattr(without_city_or_vip, "not").any.rules.extend(
        [
            segments_pb.Rule(comparison=segments_pb.Comparison(attribute="city", operator="present")),
            segments_pb.Rule(
                comparison=segments_pb.Comparison(attribute="vip", operator="eq", value=Value(bool_value=True))
            ),
        ]
    )
    rule = segments_pb.Rule(all=segments_pb.RuleList(rules=[ADULT, without_city_or_vip]))

    preview = await ask(segments_pb.PreviewSegmentRequest(rule=rule))
    made_segment = (await ask(segments_pb.CreateSegmentRequest(request_id="r", name="adults", rule=rule))).segment
    segment = await _filled(ask, made_segment.segment_id)

    assert made_segment.state in {segments_pb.SEGMENT_STATE_FILLING, segments_pb.SEGMENT_STATE_ACTIVE}
    assert (preview.count, list(preview.sample)) == (1, [made[0]])
    assert (segment.name, segment.member_count, segment.rule) == ("adults", 1, rule)
    assert (await ask(segments_pb.GetSegmentRequest(segment_id=segment.segment_id))).segment == segment
    assert list((await ask(segments_pb.ListSegmentsRequest())).segments) == [segment]
    members = await ask(segments_pb.ListSegmentMembersRequest(segment_id=segment.segment_id))
    assert (list(members.profiles), members.next_page_token) == ([made[0]], "")
    assert (await ask(segments_pb.CreateSegmentRequest(request_id="r", name="adults", rule=rule))).segment == segment


async def test_pages_follow_their_tokens(ask: Ask) -> None:
    for n in range(3):
        await ask(segments_pb.CreateSegmentRequest(name=f"s{n}", rule=ADULT))

    first = await ask(segments_pb.ListSegmentsRequest(page_size=2))
    second = await ask(segments_pb.ListSegmentsRequest(page_size=2, page_token=first.next_page_token))

    assert [one.name for one in first.segments] == ["s2", "s1"]
    assert ([one.name for one in second.segments], second.next_page_token) == (["s0"], "")


async def test_another_workspace_sees_and_touches_nothing(ask: Ask) -> None:
    other = new_id()
    (mine,) = (await ask(profiles_pb.UpsertProfilesRequest(profiles=[_input("a", age=40)]))).profiles
    segment = (await ask(segments_pb.CreateSegmentRequest(request_id="r", name="adults", rule=ADULT))).segment
    await _filled(ask, segment.segment_id)

    for request, reason in (
        (profiles_pb.GetProfileRequest(profile_id=mine.profile_id), "PROFILE_NOT_FOUND"),
        (segments_pb.GetSegmentRequest(segment_id=segment.segment_id), "SEGMENT_NOT_FOUND"),
        (segments_pb.DeleteSegmentRequest(segment_id=segment.segment_id), "SEGMENT_NOT_FOUND"),
        (segments_pb.ListSegmentMembersRequest(segment_id=segment.segment_id), "SEGMENT_NOT_FOUND"),
    ):
        with pytest.raises(RemoteError) as refused:
            await ask(request, workspace=other)
        assert (refused.value.reason, refused.value.http_status) == (reason, 404)
    assert await ask(profiles_pb.ListProfilesRequest(), workspace=other) == profiles_pb.ListProfilesResponse()
    assert await ask(segments_pb.ListSegmentsRequest(), workspace=other) == segments_pb.ListSegmentsResponse()
    assert (
        await ask(segments_pb.PreviewSegmentRequest(rule=ADULT), workspace=other)
        == segments_pb.PreviewSegmentResponse()
    )
    (theirs,) = (await ask(profiles_pb.UpsertProfilesRequest(profiles=[_input("a", age=50)]), workspace=other)).profiles
    assert theirs.profile_id != mine.profile_id
    made = (
        await ask(segments_pb.CreateSegmentRequest(request_id="r", name="adults", rule=ADULT), workspace=other)
    ).segment
    assert made.segment_id != segment.segment_id
    assert (await _filled(ask, made.segment_id, workspace=other)).member_count == 1
    assert (await ask(segments_pb.GetSegmentRequest(segment_id=segment.segment_id))).segment.member_count == 1


def _token(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode()


@pytest.mark.parametrize(
    "token",
    [
        "x",
        "%%%%",
        "ü",
        _token(b"profiles:"),
        _token(b"profiles:" + b"\x00" * 15),
        show_token("other", UUID(int=7)),
    ],
)
@pytest.mark.parametrize(
    "kind", [profiles_pb.ListProfilesRequest, segments_pb.ListSegmentsRequest, segments_pb.ListSegmentMembersRequest]
)
async def test_a_forged_page_token_is_refused(ask: Ask, kind: type[ListRequest], token: str) -> None:
    request = kind(page_token=token)
    if isinstance(request, segments_pb.ListSegmentMembersRequest):
        request.segment_id = show_id(SEGMENT, new_id())

    with pytest.raises(RemoteError) as refused:
        await ask(request)

    assert (refused.value.reason, refused.value.field) == ("INVALID_PAGE_TOKEN", "page_token")


@pytest.mark.parametrize(
    ("request_", "reason", "field"),
    [
        (profiles_pb.UpsertProfilesRequest(), "INVALID_PROFILE", "profiles"),
        (
            profiles_pb.UpsertProfilesRequest(profiles=[_input(str(n)) for n in range(1001)]),
            "INVALID_PROFILE",
            "profiles",
        ),
        (
            profiles_pb.UpsertProfilesRequest(profiles=[_input("a"), _input("a")]),
            "INVALID_PROFILE",
            "profiles[1].external_id",
        ),
        (profiles_pb.UpsertProfilesRequest(profiles=[_input("")]), "INVALID_PROFILE", "profiles[0].external_id"),
        (
            profiles_pb.UpsertProfilesRequest(profiles=[_input("a", b={"c": 1})]),
            "INVALID_PROFILE",
            "profiles[0].attributes.b",
        ),
        (
            profiles_pb.UpsertProfilesRequest(profiles=[_input("a", b=[1])]),
            "INVALID_PROFILE",
            "profiles[0].attributes.b",
        ),
        (
            profiles_pb.UpsertProfilesRequest(profiles=[_input("a", b=float("nan"))]),
            "INVALID_PROFILE",
            "profiles[0].attributes.b",
        ),
        (profiles_pb.GetProfileRequest(), "INVALID_ID", "profile_id"),
        (profiles_pb.GetProfileRequest(profile_id=show_id(SEGMENT, new_id())), "INVALID_ID", "profile_id"),
        (profiles_pb.GetProfileRequest(profile_id=show_id(PROFILE, new_id())), "PROFILE_NOT_FOUND", "profile_id"),
        (profiles_pb.ListProfilesRequest(page_size=-1), "INVALID_PAGE_SIZE", "page_size"),
        (profiles_pb.ListProfilesRequest(page_size=201), "INVALID_PAGE_SIZE", "page_size"),
        (segments_pb.CreateSegmentRequest(name="a"), "INVALID_RULE", "rule"),
        (segments_pb.CreateSegmentRequest(rule=ADULT), "INVALID_SEGMENT", "name"),
        (segments_pb.CreateSegmentRequest(name="a", rule=ADULT, request_id="r" * 201), "INVALID_SEGMENT", "request_id"),
        (segments_pb.GetSegmentRequest(segment_id="seg_"), "INVALID_ID", "segment_id"),
        (segments_pb.GetSegmentRequest(segment_id=show_id(SEGMENT, new_id())), "SEGMENT_NOT_FOUND", "segment_id"),
        (segments_pb.ListSegmentsRequest(page_size=1000), "INVALID_PAGE_SIZE", "page_size"),
        (segments_pb.DeleteSegmentRequest(segment_id="seg_"), "INVALID_ID", "segment_id"),
        (segments_pb.DeleteSegmentRequest(segment_id=show_id(SEGMENT, new_id())), "SEGMENT_NOT_FOUND", "segment_id"),
        (segments_pb.PreviewSegmentRequest(), "INVALID_RULE", "rule"),
        (segments_pb.PreviewSegmentRequest(rule=ADULT, sample_size=51), "INVALID_PAGE_SIZE", "sample_size"),
        (segments_pb.ListSegmentMembersRequest(segment_id="a"), "INVALID_ID", "segment_id"),
        (
            segments_pb.ListSegmentMembersRequest(segment_id=show_id(SEGMENT, new_id()), page_size=-5),
            "INVALID_PAGE_SIZE",
            "page_size",
        ),
    ],
)
async def test_bad_input_is_told_what_is_wrong_with_it(ask: Ask, request_: Message, reason: str, field: str) -> None:
    with pytest.raises(RemoteError) as refused:
        await ask(request_)

    assert (refused.value.reason, refused.value.field) == (reason, field)
    assert refused.value.http_status in {400, 404}


async def test_a_rule_far_too_deep_is_refused(ask: Ask) -> None:
    rule = segments_pb.Rule()
    rule.CopyFrom(ADULT)
    for _ in range(40):
        outer = segments_pb.Rule()
        getattr(outer, "not").CopyFrom(rule)
        rule = outer

    with pytest.raises(RemoteError) as refused:
        await ask(segments_pb.PreviewSegmentRequest(rule=rule))

    assert (refused.value.reason, refused.value.field) == ("INVALID_RULE", "rule" + ".not" * 10)


async def test_a_deleted_segment_is_not_found(ask: Ask) -> None:
    segment = (await ask(segments_pb.CreateSegmentRequest(name="adults", rule=ADULT))).segment

    await ask(segments_pb.DeleteSegmentRequest(segment_id=segment.segment_id))

    with pytest.raises(RemoteError) as refused:
        await ask(segments_pb.GetSegmentRequest(segment_id=segment.segment_id))
    assert refused.value.reason == "SEGMENT_NOT_FOUND"
    assert list((await ask(segments_pb.ListSegmentsRequest())).segments) == []


async def test_a_preview_warns_of_a_rule_that_never_meets_the_stored_type(ask: Ask) -> None:
    await ask(profiles_pb.UpsertProfilesRequest(profiles=[_input("a", age="34")]))

    preview = await ask(segments_pb.PreviewSegmentRequest(rule=ADULT))

    assert preview.count == 0
    (warning,) = preview.warnings
    assert (warning.field, warning.message.split(" in ")[0]) == ("rule.comparison", "age is a text")


async def test_many_upserts_of_one_workspace_leave_connections_to_others(
    ask: Ask, database: Database, workspace_id: UUID
) -> None:
    await ask(profiles_pb.UpsertProfilesRequest(profiles=[_input("a", age=1)]))
    async with database.transaction() as holder:
        await holder.execute(text("SELECT id FROM profile FOR UPDATE"))
        waiting = [
            asyncio.create_task(ask(profiles_pb.UpsertProfilesRequest(profiles=[_input("a", age=n)])))
            for n in range(30)
        ]
        await until(lambda: _at_least_waiting(database, UPSERTS_AT_ONCE))

        assert await ask(profiles_pb.ListProfilesRequest(), workspace=new_id()) == profiles_pb.ListProfilesResponse()

    assert len(await asyncio.gather(*waiting)) == 30


async def _at_least_waiting(database: Database, count: int) -> bool:
    async with database.reading() as session:
        rows = await session.execute(text("SELECT count(DISTINCT pid) FROM pg_locks WHERE NOT granted"))
        return int(rows.scalar_one()) >= count


async def test_a_taken_name_is_a_conflict(ask: Ask) -> None:
    await ask(segments_pb.CreateSegmentRequest(name="adults", rule=ADULT))

    with pytest.raises(RemoteError) as refused:
        await ask(segments_pb.CreateSegmentRequest(name="adults", rule=ADULT))

    assert (refused.value.reason, refused.value.http_status) == ("SEGMENT_NAME_TAKEN", 409)


@pytest.mark.parametrize(
    "request_",
    [
        profiles_pb.UpsertProfilesRequest(),
        profiles_pb.GetProfileRequest(),
        profiles_pb.ListProfilesRequest(),
        segments_pb.CreateSegmentRequest(),
        segments_pb.GetSegmentRequest(),
        segments_pb.ListSegmentsRequest(),
        segments_pb.DeleteSegmentRequest(),
        segments_pb.PreviewSegmentRequest(),
        segments_pb.ListSegmentMembersRequest(),
    ],
    ids=lambda request: request.DESCRIPTOR.name,
)
async def test_a_call_without_identity_is_refused(method: Method, request_: Message) -> None:
    with pytest.raises(RemoteError) as refused:
        await call(method(request_), request_, identity="")

    assert refused.value.reason == "INVALID_IDENTITY"
