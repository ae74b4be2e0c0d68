"""Answers compiled from a message and a view: the view decides, and no byte differs from the documented form."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal

import orjson
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp
from regie.audience.v1 import profiles_service_pb2 as profiles_pb
from regie.publisher.v1 import deliveries_service_pb2 as deliveries_pb
from regie.scheduler.v1 import posts_service_pb2 as pb
from regie_chassis.boundary.enums import names_of
from regie_gateway.http.fields import View
from regie_gateway.mapping.compiled import compile_view
from regie_gateway.mapping.overrides import From, WhenEmpty
from regie_gateway.resources.audience.profiles import ProfileView
from regie_gateway.resources.planning.post_views import PostPage, PostView
from regie_gateway.resources.publishing.deliveries import DeliveryView

TIME = Timestamp(seconds=1_772_442_000)
FULL = pb.Post(
    post_id="post_1",
    title="Opening",
    state=pb.POST_STATE_PARTIALLY_PUBLISHED,
    variants=[
        pb.Variant(
            channel_id="chan_1",
            segments=[
                pb.Segment(
                    text="Doors open",
                    attachments=[pb.Attachment(media_id="med_1", alt_text="A door")],
                    state=pb.SEGMENT_STATE_PUBLISHED,
                    remote_id="7",
                    remote_url="https://one.example/7",
                ),
                pb.Segment(text="at eight."),
            ],
            visibility="unlisted",
            language="en",
            state=pb.VARIANT_STATE_UNKNOWN,
            remote_id="7",
            remote_url="https://one.example/7",
            failure="lost",
            remove_time=TIME,
        )
    ],
    publish_local_time="2026-03-02T10:00:00",
    time_zone="Europe/Paris",
    publish_time=TIME,
    revision=3,
    create_time=TIME,
    update_time=Timestamp(seconds=1_772_442_000, nanos=120_000_000),
    cancel_time=TIME,
)
FULL_JSON = (
    b'{"post_id":"post_1","title":"Opening","state":"partially_published","variants":[{"channel_id":"chan_1",'
    b'"segments":[{"text":"Doors open","attachments":[{"media_id":"med_1","alt_text":"A door"}],"state":"published",'
    b'"remote_id":"7","remote_url":"https://one.example/7"},{"text":"at eight.","attachments":[],"state":"planned",'
    b'"remote_id":"","remote_url":""}],"visibility":"unlisted","language":"en","state":"unknown","remote_id":"7",'
    b'"remote_url":"https://one.example/7","failure":"lost","remove_time":"2026-03-02T09:00:00Z"}],"publish_at":'
    b'{"local_time":"2026-03-02T10:00:00","time_zone":"Europe/Paris","occurrence":"first","time":"2026-03-02T09:00:00Z"},'
    b'"cancellation":{"cancel_time":"2026-03-02T09:00:00Z","open_channel_ids":["chan_1"]},"revision":3,'
    b'"create_time":"2026-03-02T09:00:00Z","update_time":"2026-03-02T09:00:00.120Z"}'
)


def test_a_post_is_shown_as_it_was_promised_byte_for_byte() -> None:
    assert orjson.dumps(compile_view(pb.Post, PostView)(FULL)) == FULL_JSON


def test_an_empty_draft_shows_its_defaults() -> None:
    draft = pb.Post(state=pb.POST_STATE_DRAFT, variants=[pb.Variant()])
    view = compile_view(pb.Post, PostView)(draft)
    assert (view["publish_at"], view["cancellation"], view["create_time"]) == (None, None, None)
    assert (view["variants"][0]["visibility"], view["variants"][0]["state"]) == ("public", "planned")


def test_a_page_is_shown_with_its_token() -> None:
    view = compile_view(pb.ListPostsResponse, PostPage)(pb.ListPostsResponse(posts=[FULL], next_page_token="t"))
    assert orjson.dumps(view) == b'{"posts":[' + FULL_JSON + b'],"next_page_token":"t"}'


def test_attributes_are_shown_as_the_values_they_are() -> None:
    attributes = Struct()
    attributes.update({"age": 34, "half": 0.5, "vip": True, "tags": ["a", "b"], "none": None, "big": 2.0**60})
    view = compile_view(profiles_pb.Profile, ProfileView)(profiles_pb.Profile(attributes=attributes))
    expected = {"age": 34, "half": 0.5, "vip": True, "tags": ["a", "b"], "none": None, "big": 2.0**60}
    assert view["attributes"] == expected
    assert isinstance(view["attributes"]["age"], int)
    assert isinstance(view["attributes"]["big"], float)


def test_a_delivery_has_the_fields_of_its_view_in_their_order() -> None:
    view = compile_view(deliveries_pb.Delivery, DeliveryView)(deliveries_pb.Delivery())
    assert list(view) == list(DeliveryView.model_fields)


def widened(message: str) -> Any:
    """Returns the class of a message of posts_service.proto with an added field `inside_only`."""
    pool = DescriptorPool()

    def add(file: Any) -> None:
        for dependency in file.dependencies:
            add(dependency)
        proto = FileDescriptorProto()
        file.CopyToProto(proto)
        if file is pb.DESCRIPTOR:
            for one in proto.message_type:
                one.field.add(name="inside_only", number=500, type="TYPE_STRING", label="LABEL_OPTIONAL")
        pool.AddSerializedFile(proto.SerializeToString())

    add(pb.DESCRIPTOR)
    return GetMessageClass(pool.FindMessageTypeByName(message))


def test_a_field_that_the_contract_gains_does_not_become_public() -> None:
    post = widened("regie.scheduler.v1.Post").FromString(FULL.SerializeToString())
    post.inside_only = post.variants[0].inside_only = post.variants[0].segments[0].inside_only = "secret"
    assert orjson.dumps(compile_view(type(post), PostView)(post)) == FULL_JSON


class LooseView(View):
    nothing: str


class NestedView(View):
    variants: list[str]


def test_a_view_of_a_field_that_is_not_there_is_refused_before_anything_is_shown() -> None:
    with pytest.raises(TypeError, match="has no nothing for LooseView"):
        compile_view(pb.Post, LooseView)
    with pytest.raises(TypeError, match="variants is a message"):
        compile_view(pb.Post, NestedView)
    with pytest.raises(TypeError, match="Row has no nothing"):
        compile_view(Row, LooseView)


@dataclass(frozen=True, slots=True)
class Row:
    id: int
    name: str
    secret: str
    create_time: datetime | None


class RowView(View):
    row_id: Annotated[str, From(lambda row: f"row_{row.id}")]
    name: str
    create_time: datetime | None


def test_a_row_shows_the_fields_of_its_view_alone() -> None:
    assert compile_view(Row, RowView)(Row(1, "a", "s", None)) == {"row_id": "row_1", "name": "a", "create_time": None}


class StateView(View):
    state: Annotated[Literal["planned", "unknown"], WhenEmpty("planned")]


def test_a_state_that_this_version_does_not_know_is_shown_as_the_default() -> None:
    variant = pb.Variant.FromString(b"\x28\x63")  # field 5, number 99
    assert compile_view(pb.Variant, StateView)(variant) == {"state": "planned"}


class EditView(View):
    title: str | None


def test_an_optional_field_that_is_absent_is_null() -> None:
    to_view = compile_view(pb.EditPostRequest, EditView)
    assert to_view(pb.EditPostRequest()) == {"title": None}
    assert to_view(pb.EditPostRequest(title="")) == {"title": ""}


def test_enums_lose_their_own_name() -> None:
    assert names_of(pb.PostState.DESCRIPTOR)[pb.POST_STATE_IN_REVIEW] == "in_review"
    assert names_of(pb.PostState.DESCRIPTOR)[pb.POST_STATE_UNSPECIFIED] == ""
    with pytest.raises(KeyError):
        names_of(pb.PostState.DESCRIPTOR)[99]
