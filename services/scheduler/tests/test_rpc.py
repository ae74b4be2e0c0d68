"""The scheduler as its callers see it: over gRPC, with an identity, as `build` puts it together."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import grpc
import pytest
from google.protobuf.message import Message
from regie.ids.v1.prefixes import API_KEY, CHANNEL, POST
from regie.publisher.events.v1.publisher_events_pb2 import PostPublished
from regie.scheduler.events.v1.scheduler_events_pb2 import PostDue, PostFinished
from regie.scheduler.v1 import posts_service_pb2 as pb
from regie.scheduler.v1.posts_service_pb2_grpc import PostsServiceStub
from regie_chassis.boundary.identity import Caller, Signer, new_key
from regie_chassis.boundary.ids import new_id, show_id
from regie_chassis.boundary.rpc import RemoteError, call, open_channel
from regie_chassis.data.database import Database
from regie_chassis.events.messaging import Envelope, headers_of, stream_spec, subject_of
from regie_chassis.process.clock import SystemClock
from regie_chassis.process.service import Service
from regie_local.testing.memory_broker import MemoryBroker
from regie_local.testing.service_fixtures import StagedEvent, settings_on
from regie_local.testing.waiting import until
from regie_scheduler.app import build
from regie_scheduler.settings import SchedulerSettings
from sqlalchemy import text

KEY = new_key()
Call = Callable[..., Awaitable[Any]]


@pytest.fixture
def memory_broker() -> MemoryBroker:
    return MemoryBroker()


@pytest.fixture
async def service(database: Database, memory_broker: MemoryBroker) -> AsyncIterator[Service]:
    settings = settings_on(SchedulerSettings, database, KEY, drain_seconds=10)
    service = build(settings, broker=memory_broker)
    async with service.app:
        yield service


@pytest.fixture
async def ask(service: Service, workspace_id: UUID) -> AsyncIterator[Call]:
    """Calls a method by name as a member of the test's workspace, or of another."""
    assert service.rpc
    signer = Signer(KEY)

    async def run(method: str, request: Message, *, workspace: UUID | None = None, identity: str | None = None) -> Any:
        caller = Caller(workspace or workspace_id, show_id(API_KEY, new_id()))
        token = signer.sign(caller, audience="scheduler", now=SystemClock().now()) if identity is None else identity
        return await call(getattr(stub, method), request, identity=token)

    async with open_channel(service.rpc.target) as channel:
        stub: Any = PostsServiceStub(channel)
        yield run


def variant(words: str = "hello", **changes: Any) -> pb.Variant:
    return pb.Variant(
        **{"channel_id": show_id(CHANNEL, new_id()), "segments": [pb.Segment(text=words)], "language": "en", **changes}
    )


def soon(span: timedelta) -> dict[str, Any]:
    return {
        "publish_local_time": (SystemClock().now() + span).replace(tzinfo=None).isoformat(),
        "time_zone": "Etc/UTC",
    }


async def test_a_post_goes_its_whole_way(ask: Call, workspace_id: UUID, memory_broker: MemoryBroker) -> None:
    await memory_broker.ensure_stream(stream_spec("publisher"))
    content = variant()
    request = pb.CreatePostRequest(request_id="r1", title="spring", variants=[content])
    post = (await ask("CreatePost", request)).post
    assert (post.state, post.revision, post.variants[0].segments[0].text) == (pb.POST_STATE_DRAFT, 1, "hello")
    assert (await ask("CreatePost", request)).post == post
    post = (await ask("EditPost", pb.EditPostRequest(post_id=post.post_id, title="summer", revision=1))).post
    assert (post.title, post.revision) == ("summer", 2)
    time = soon(timedelta(milliseconds=150))
    post = (await ask("SchedulePost", pb.SchedulePostRequest(post_id=post.post_id, **time))).post
    assert (post.state, post.publish_local_time) == (pb.POST_STATE_SCHEDULED, time["publish_local_time"])

    async def due() -> Any:
        return next((one for one in sent(memory_broker, PostDue)), None)

    message = await until(due)
    assert (message.post_id, message.revision, message.variants[0].channel_id) == (post.post_id, 3, content.channel_id)
    await memory_broker.publish([envelope_of(workspace_id, PostPublished(
        post_id=post.post_id, channel_id=content.channel_id, revision=3, remote_id="r", remote_url="https://n.example/r"
    ))])  # fmt: skip

    async def finished() -> bool:
        return bool(sent(memory_broker, PostFinished))

    await until(finished)
    (post,) = (await ask("BatchGetPosts", pb.BatchGetPostsRequest(post_ids=[post.post_id]))).posts
    assert (post.state, post.variants[0].state) == (pb.POST_STATE_PUBLISHED, pb.VARIANT_STATE_PUBLISHED)
    assert post.variants[0].remote_url == "https://n.example/r"
    timeline = await ask("GetPostTimeline", pb.GetPostTimelineRequest(post_id=post.post_id))
    *changes, delivery = timeline.entries
    assert [(change.post_state, change.cause) for change in changes] == [
        (pb.POST_STATE_DRAFT, pb.CHANGE_CAUSE_API),
        (pb.POST_STATE_DRAFT, pb.CHANGE_CAUSE_API),
        (pb.POST_STATE_SCHEDULED, pb.CHANGE_CAUSE_API),
        (pb.POST_STATE_DISPATCHED, pb.CHANGE_CAUSE_DUE),
        (pb.POST_STATE_PUBLISHED, pb.CHANGE_CAUSE_PUBLISHER),
    ]
    assert (delivery.channel_id, delivery.variant_state) == (content.channel_id, pb.VARIANT_STATE_PUBLISHED)
    assert (delivery.cause, delivery.detail) == (pb.CHANGE_CAUSE_PUBLISHER, "https://n.example/r")


async def test_a_post_that_is_stopped_on_its_way_says_so(ask: Call, database: Database) -> None:
    post = (await ask("CreatePost", pb.CreatePostRequest(variants=[variant()], **soon(timedelta(hours=1))))).post
    assert not post.HasField("cancel_time")
    async with database.transaction() as session:
        await session.execute(text("UPDATE post SET state = 'dispatched'"))
    stopped = (await ask("CancelPost", pb.CancelPostRequest(post_id=post.post_id))).post
    assert (stopped.state, stopped.HasField("cancel_time")) == (pb.POST_STATE_DISPATCHED, True)
    assert [segment.state for segment in stopped.variants[0].segments] == [pb.SEGMENT_STATE_PENDING]


async def test_posts_are_listed_and_cancelled(ask: Call) -> None:
    posts = [
        (await ask("CreatePost", pb.CreatePostRequest(variants=[variant()], **soon(timedelta(hours=1))))).post
        for _ in range(3)
    ]
    cancelled = (await ask("CancelPost", pb.CancelPostRequest(post_id=posts[0].post_id))).post
    assert (cancelled.state, cancelled.variants[0].state) == (
        pb.POST_STATE_CANCELLED,
        pb.VARIANT_STATE_CANCELLED,
    )
    page = await ask("ListPosts", pb.ListPostsRequest(page_size=1, state=pb.POST_STATE_SCHEDULED))
    assert [post.post_id for post in page.posts] == [posts[2].post_id]
    page = await ask(
        "ListPosts",
        pb.ListPostsRequest(page_size=1, state=pb.POST_STATE_SCHEDULED, page_token=page.next_page_token),
    )
    assert ([post.post_id for post in page.posts], page.next_page_token) == ([posts[1].post_id], "")


GONE = show_id(POST, new_id())


@pytest.mark.parametrize(
    ("method", "request_", "reason", "status", "field"),
    [
        ("CreatePost", pb.CreatePostRequest(), "INVALID_POST", 400, "variants"),
        (
            "CreatePost",
            pb.CreatePostRequest(variants=[variant("")]),
            "INVALID_POST",
            400,
            "variants[0].segments[0].text",
        ),
        (
            "CreatePost",
            pb.CreatePostRequest(variants=[variant()], publish_local_time="2030-01-01T10:00", time_zone="Mars"),
            "INVALID_ZONE",
            400,
            "time_zone",
        ),
        (
            "CreatePost",
            pb.CreatePostRequest(variants=[variant()], publish_local_time="2020-01-01T10:00", time_zone="UTC"),
            "TIME_IN_PAST",
            422,
            "publish_local_time",
        ),
        (
            "CreatePost",
            pb.CreatePostRequest(variants=[variant()], publish_local_time="2029-03-25T02:30", time_zone="Europe/Paris"),
            "NONEXISTENT_TIME",
            422,
            "publish_local_time",
        ),
        (
            "CreatePost",
            pb.CreatePostRequest(variants=[variant()], time_zone="UTC"),
            "INVALID_TIME",
            400,
            "publish_local_time",
        ),
        ("CancelPost", pb.CancelPostRequest(post_id="42"), "INVALID_ID", 400, "post_id"),
        ("BatchGetPosts", pb.BatchGetPostsRequest(), "TOO_MANY_POSTS", 400, "post_ids"),
        ("BatchGetPosts", pb.BatchGetPostsRequest(post_ids=[GONE] * 101), "TOO_MANY_POSTS", 400, "post_ids"),
        ("BatchGetPosts", pb.BatchGetPostsRequest(post_ids=[GONE, "42"]), "INVALID_ID", 400, "post_ids"),
        ("EditPost", pb.EditPostRequest(post_id=GONE), "POST_NOT_FOUND", 404, "post_id"),
        ("CancelPost", pb.CancelPostRequest(post_id=GONE), "POST_NOT_FOUND", 404, "post_id"),
        ("GetPostTimeline", pb.GetPostTimelineRequest(post_id=GONE), "POST_NOT_FOUND", 404, "post_id"),
        ("ListPosts", pb.ListPostsRequest(page_token="forged"), "INVALID_PAGE_TOKEN", 400, "page_token"),
        ("ListPosts", pb.ListPostsRequest(page_size=-1), "INVALID_PAGE_SIZE", 400, "page_size"),
        ("ListPosts", pb.ListPostsRequest(state=99), "INVALID_STATE", 400, "state"),  # type: ignore[arg-type]
    ],
)
async def test_what_cannot_be_done_is_answered_with_its_reason(
    ask: Call, method: str, request_: Message, reason: str, status: int, field: str
) -> None:
    with pytest.raises(RemoteError) as caught:
        await ask(method, request_)
    assert (caught.value.reason, caught.value.http_status, caught.value.field) == (reason, status, field)


async def test_conflicts_say_what_the_post_is(ask: Call) -> None:
    post = (await ask("CreatePost", pb.CreatePostRequest(variants=[variant()]))).post
    with pytest.raises(RemoteError) as caught:
        await ask("EditPost", pb.EditPostRequest(post_id=post.post_id, revision=7, title="x"))
    assert (caught.value.reason, caught.value.grpc_code) == ("REVISION_CONFLICT", grpc.StatusCode.FAILED_PRECONDITION)
    await ask("CancelPost", pb.CancelPostRequest(post_id=post.post_id))
    with pytest.raises(RemoteError, match="cancelled") as caught:
        await ask("SchedulePost", pb.SchedulePostRequest(post_id=post.post_id, **soon(timedelta(hours=1))))
    assert (caught.value.reason, caught.value.http_status) == ("POST_STATE_CONFLICT", 409)


async def test_another_workspaces_post_looks_like_none(ask: Call) -> None:
    post = (await ask("CreatePost", pb.CreatePostRequest(variants=[variant()]))).post
    with pytest.raises(RemoteError) as caught:
        await ask("GetPostTimeline", pb.GetPostTimelineRequest(post_id=post.post_id), workspace=new_id())
    assert caught.value.reason == "POST_NOT_FOUND"


async def test_posts_are_read_together_and_another_workspaces_are_left_out(ask: Call) -> None:
    ours = [(await ask("CreatePost", pb.CreatePostRequest(variants=[variant()]))).post for _ in range(2)]
    stranger = new_id()
    theirs = (await ask("CreatePost", pb.CreatePostRequest(variants=[variant()]), workspace=stranger)).post
    request = pb.BatchGetPostsRequest(post_ids=[ours[1].post_id, theirs.post_id, GONE, ours[0].post_id])
    assert sorted((await ask("BatchGetPosts", request)).posts, key=lambda post: post.post_id) == ours
    assert list((await ask("BatchGetPosts", request, workspace=stranger)).posts) == [theirs]


async def test_a_hundred_posts_are_read_at_once(ask: Call) -> None:
    post = (await ask("CreatePost", pb.CreatePostRequest(variants=[variant()]))).post
    ids = [post.post_id, *(show_id(POST, new_id()) for _ in range(99))]
    assert list((await ask("BatchGetPosts", pb.BatchGetPostsRequest(post_ids=ids))).posts) == [post]


async def test_nobody_is_answered_without_an_identity(ask: Call) -> None:
    with pytest.raises(RemoteError) as caught:
        await ask("ListPosts", pb.ListPostsRequest(), identity="forged")
    assert caught.value.http_status == 401


async def test_the_service_answers_again_after_its_connections_were_cut(ask: Call, database: Database) -> None:
    post = (await ask("CreatePost", pb.CreatePostRequest(variants=[variant()]))).post
    async with database.reading() as session:
        await session.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        )

    async def answered() -> bool:
        try:
            return bool(await ask("BatchGetPosts", pb.BatchGetPostsRequest(post_ids=[post.post_id])))
        except RemoteError as error:
            if error.retryable:
                return False
            raise

    await until(answered)


def sent(broker: MemoryBroker, kind: type[StagedEvent]) -> list[StagedEvent]:
    name = kind.DESCRIPTOR.full_name
    return [
        kind.FromString(envelope.payload)
        for stream in broker._streams.values()
        for envelope in stream.messages
        if envelope.headers["ce-type"] == name
    ]


def envelope_of(workspace_id: UUID, message: Message) -> Envelope:
    event_id, name = new_id(), message.DESCRIPTOR.full_name
    headers = headers_of(name, event_id=event_id, workspace_id=workspace_id, time=SystemClock().now(), traceparent="")
    return Envelope(subject_of(name, workspace_id), str(event_id), message.SerializeToString(), headers)


async def test_sixty_large_drafts_are_listed_and_read_within_what_a_message_carries(ask: Call) -> None:
    texts = ["x" * 99_000] * 5
    ids = set()
    for number in range(60):
        variant = pb.Variant(channel_id=show_id(CHANNEL, new_id()), segments=[pb.Segment(text=one) for one in texts])
        request = pb.CreatePostRequest(request_id=f"r{number}", title=str(number), variants=[variant])
        ids.add((await ask("CreatePost", request)).post.post_id)
    listed: list[str] = []
    token, pages = "", 0
    while token or not pages:
        page = await ask("ListPosts", pb.ListPostsRequest(page_size=50, page_token=token))
        listed += [post.post_id for post in page.posts]
        token, pages = page.next_page_token, pages + 1
    assert len(listed) == 60
    assert set(listed) == ids
    assert pages > 5
    left, read = set(ids), set[str]()
    while left:
        batch = await ask("BatchGetPosts", pb.BatchGetPostsRequest(post_ids=left))
        read |= {post.post_id for post in batch.posts}
        assert set(batch.left_post_ids) < left
        left = set(batch.left_post_ids)
    assert read == ids
