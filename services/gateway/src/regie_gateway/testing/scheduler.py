"""A scheduler with memory."""

# ruff: noqa: N802, ARG002  # the names and parameters are those of the generated servicer

from __future__ import annotations

from typing import Any

from regie.ids.v1.prefixes import POST
from regie.scheduler.v1 import posts_service_pb2 as pb
from regie.scheduler.v1.posts_service_pb2_grpc import PostsServiceServicer
from regie_chassis.boundary.errors import Conflict, Invalid, NotFound
from regie_chassis.boundary.ids import new_id, show_id
from regie_chassis.boundary.telemetry import current_traceparent, trace_id_of

from regie_gateway.testing.memory import Memory, timestamp


class PostNotFound(NotFound):
    """No such post."""


class PostStateConflict(Conflict):
    """The post's state does not allow it."""


class RevisionConflict(Conflict):
    """Somebody has changed the post."""


class InvalidZone(Invalid):
    """No such zone."""


class FakeScheduler(PostsServiceServicer):
    """Creates, edits, schedules and cancels in memory."""

    def __init__(self) -> None:
        self.memory = Memory()
        self.timelines: dict[str, list[pb.TimelineEntry]] = {}
        self.read_traces: list[str] = []
        """The trace of each BatchGetPosts."""
        self.posts_an_answer = 100
        """How many posts fit into one answer."""

    async def CreatePost(self, request: pb.CreatePostRequest, context: Any) -> pb.CreatePostResponse:
        def act() -> pb.CreatePostResponse:
            post = pb.Post(
                post_id=show_id(POST, new_id()),
                title=request.title,
                variants=request.variants,
                state=pb.POST_STATE_DRAFT,
                revision=1,
                create_time=timestamp(),
                update_time=timestamp(),
            )
            for variant in post.variants:
                variant.state = pb.VARIANT_STATE_PLANNED
                for segment in variant.segments:
                    segment.state = pb.SEGMENT_STATE_PLANNED
            if request.publish_local_time:
                _schedule(post, request)
            self.memory.put(post.post_id, post)
            return pb.CreatePostResponse(post=post)

        return await self.memory.once(request, act)

    async def BatchGetPosts(self, request: pb.BatchGetPostsRequest, context: Any) -> pb.BatchGetPostsResponse:
        self.memory.see(request)
        self.read_traces.append(trace_id_of(current_traceparent()))
        posts = [post for post in self.memory.all(pb.Post) if post.post_id in request.post_ids]
        fitting = posts[: self.posts_an_answer]
        left = [post.post_id for post in posts[len(fitting) :]]
        return pb.BatchGetPostsResponse(posts=fitting, left_post_ids=left)

    async def ListPosts(self, request: pb.ListPostsRequest, context: Any) -> pb.ListPostsResponse:
        self.memory.see(request)
        posts = [post for post in self.memory.all(pb.Post) if not request.states or post.state in request.states]
        return pb.ListPostsResponse(posts=posts[: request.page_size])

    async def EditPost(self, request: pb.EditPostRequest, context: Any) -> pb.EditPostResponse:
        def act() -> pb.EditPostResponse:
            post = self._find(request.post_id)
            _check(post, request.revision)
            if request.HasField("title"):
                post.title = request.title
            post.revision += 1
            return pb.EditPostResponse(post=post)

        return await self.memory.once(request, act)

    async def SchedulePost(self, request: pb.SchedulePostRequest, context: Any) -> pb.SchedulePostResponse:
        def act() -> pb.SchedulePostResponse:
            post = self._find(request.post_id)
            _check(post, request.revision)
            _schedule(post, request)
            post.revision += 1
            return pb.SchedulePostResponse(post=post)

        return await self.memory.once(request, act)

    async def CancelPost(self, request: pb.CancelPostRequest, context: Any) -> pb.CancelPostResponse:
        def act() -> pb.CancelPostResponse:
            post = self._find(request.post_id)
            if post.state == pb.POST_STATE_CANCELLED:
                raise PostStateConflict("the post is cancelled already", field="post_id")
            _check(post, request.revision)
            post.cancel_time.CopyFrom(timestamp())
            if post.state != pb.POST_STATE_DISPATCHED:
                post.state = pb.POST_STATE_CANCELLED
            return pb.CancelPostResponse(post=post)

        return await self.memory.once(request, act)

    async def GetPostTimeline(self, request: pb.GetPostTimelineRequest, context: Any) -> pb.GetPostTimelineResponse:
        self.memory.see(request)
        self._find(request.post_id)
        return pb.GetPostTimelineResponse(entries=self.timelines.get(request.post_id, []))

    def _find(self, post_id: str) -> pb.Post:
        post = self.memory.get(post_id)
        if post is None:
            raise PostNotFound("there is no such post in this workspace", field="post_id")
        assert isinstance(post, pb.Post)
        return post


def _check(post: pb.Post, revision: int) -> None:
    if revision and revision != post.revision:
        raise RevisionConflict(f"the post is at revision {post.revision}", field="revision")


def _schedule(post: pb.Post, request: pb.CreatePostRequest | pb.SchedulePostRequest) -> None:
    if request.time_zone == "Mars":
        raise InvalidZone("name an IANA zone, as in Europe/Paris", field="time_zone")
    post.publish_local_time = request.publish_local_time
    post.time_zone = request.time_zone
    post.publish_time.CopyFrom(timestamp())
    post.state = pb.POST_STATE_SCHEDULED
