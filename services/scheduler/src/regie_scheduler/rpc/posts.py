"""PostsService: message → use case → message."""

from __future__ import annotations

import json
from collections.abc import Sequence
from uuid import UUID

from regie.ids.v1.prefixes import CHANNEL, POST
from regie.scheduler.events.v1.scheduler_events_pb2 import DueVariant
from regie.scheduler.v1 import posts_service_pb2 as pb
from regie.scheduler.v1.posts_service_pb2_grpc import PostsServiceServicer
from regie_chassis.boundary.errors import Invalid
from regie_chassis.boundary.ids import new_id, parse_id, show_id
from regie_chassis.boundary.rpc import Context, caller
from regie_chassis.boundary.timestamps import timestamp
from regie_chassis.data.database import Database
from regie_chassis.data.paging import fitting
from regie_chassis.process.clock import Clock

from regie_scheduler.posts import planning, queries
from regie_scheduler.posts.planning import Command, WallTime
from regie_scheduler.posts.post import Post, Variant
from regie_scheduler.posts.protobuf import CHANGE_CAUSES, POST_STATES, SEGMENT_STATES, VARIANT_STATES
from regie_scheduler.posts.queries import PostKey
from regie_scheduler.posts.states import ChangeCause, PostState, VariantState, segment_states, state_for_readers
from regie_scheduler.posts.timeline import Change, DeliveryStatus
from regie_scheduler.posts.times import occurrence_of
from regie_scheduler.posts.wakeup import DueWakeup

READ_BATCH = 100
STATE_FILTERS = {number: state for state, number in POST_STATES.items()}


class InvalidState(Invalid):
    """A filter names a state that does not exist."""


class TooManyPosts(Invalid):
    """A batch asks for no post, or for more than one answer should hold."""


class PostsServicer(PostsServiceServicer):
    """Serves the caller's workspace alone."""

    def __init__(self, database: Database, wakeup: DueWakeup, clock: Clock) -> None:
        self._database = database
        self._wakeup = wakeup
        self._clock = clock

    async def CreatePost(self, request: pb.CreatePostRequest, context: Context) -> pb.CreatePostResponse:
        command = self._command(new_id(), request.request_id)
        variants = [_due_variant(variant) for variant in request.variants]
        # A zone without a time is a mistake to point out, not a draft.
        scheduled = request.publish_local_time or request.time_zone or request.occurrence
        wall_time = _wall_time(request) if scheduled else None
        async with self._database.transaction() as session:
            post = await planning.create_post(
                session, command, title=request.title, variants=variants, wall_time=wall_time, wakeup=self._wakeup
            )
        return pb.CreatePostResponse(post=post_message(post))

    async def BatchGetPosts(self, request: pb.BatchGetPostsRequest, context: Context) -> pb.BatchGetPostsResponse:
        if not 1 <= len(request.post_ids) <= READ_BATCH:
            raise TooManyPosts(f"ask for 1 to {READ_BATCH} posts at once", field="post_ids")
        workspace_id = caller().workspace_id
        keys = [PostKey(workspace_id, parse_id(POST, post_id, "post_ids")) for post_id in request.post_ids]
        async with self._database.reading() as session:
            existing = [post for post in await queries.get_posts(session, keys) if post is not None]
        posts = fitting(existing, queries.bytes_of)
        return pb.BatchGetPostsResponse(
            posts=[post_message(post) for post in posts],
            left_post_ids=[show_id(POST, post.id) for post in existing[len(posts) :]],
        )

    async def ListPosts(self, request: pb.ListPostsRequest, context: Context) -> pb.ListPostsResponse:
        numbers = {*request.states, request.state} - {pb.POST_STATE_UNSPECIFIED}
        if not numbers <= STATE_FILTERS.keys():
            raise InvalidState("there is no such state; leave it out for all posts", field="state")
        async with self._database.reading() as session:
            page = await queries.list_posts(
                session,
                workspace_id=caller().workspace_id,
                page_size=request.page_size,
                page_token=request.page_token,
                states={STATE_FILTERS[number] for number in numbers},
            )
        return pb.ListPostsResponse(
            posts=[post_message(post) for post in page.items], next_page_token=page.next_page_token
        )

    async def EditPost(self, request: pb.EditPostRequest, context: Context) -> pb.EditPostResponse:
        command = self._command(_post_id(request.post_id), request.request_id)
        async with self._database.transaction() as session:
            post = await planning.edit_post(
                session,
                command,
                revision=request.revision,
                title=request.title if request.HasField("title") else None,
                variants=[_due_variant(variant) for variant in request.variants],
            )
        return pb.EditPostResponse(post=post_message(post))

    async def SchedulePost(self, request: pb.SchedulePostRequest, context: Context) -> pb.SchedulePostResponse:
        command = self._command(_post_id(request.post_id), request.request_id)
        async with self._database.transaction() as session:
            post = await planning.schedule_post(
                session, command, wall_time=_wall_time(request), revision=request.revision, wakeup=self._wakeup
            )
        return pb.SchedulePostResponse(post=post_message(post))

    async def CancelPost(self, request: pb.CancelPostRequest, context: Context) -> pb.CancelPostResponse:
        command = self._command(_post_id(request.post_id), request.request_id)
        async with self._database.transaction() as session:
            post = await planning.cancel_post(session, command, revision=request.revision)
        return pb.CancelPostResponse(post=post_message(post))

    async def GetPostTimeline(self, request: pb.GetPostTimelineRequest, context: Context) -> pb.GetPostTimelineResponse:
        async with self._database.reading() as session:
            page = await queries.list_timeline(
                session,
                workspace_id=caller().workspace_id,
                post_id=_post_id(request.post_id),
                page_token=request.page_token,
            )
        return pb.GetPostTimelineResponse(
            entries=[_entry_message(item) for item in page.items], next_page_token=page.next_page_token
        )

    def _command(self, post_id: UUID, request_id: str) -> Command:
        return Command(caller().workspace_id, post_id, request_id, self._clock.now())


def post_message(post: Post) -> pb.Post:
    """Returns a post as its message."""
    message = pb.Post(
        post_id=show_id(POST, post.id),
        title=post.title,
        state=POST_STATES[post.state],
        variants=(_variant_message(variant, post.state) for variant in post.variants),
        revision=post.revision,
        create_time=timestamp(post.create_time),
        update_time=timestamp(post.update_time),
        cancel_time=timestamp(post.cancel_time),
    )
    if post.time:
        message.publish_local_time = post.time.local_time
        message.time_zone = post.time.time_zone
        message.publish_time.FromDatetime(post.time.instant)
        message.occurrence = occurrence_of(post.time.local_time, post.time.time_zone, post.time.instant)
    return message


def _wall_time(request: pb.CreatePostRequest | pb.SchedulePostRequest) -> WallTime:
    return WallTime(request.publish_local_time, request.time_zone, request.occurrence)


def _variant_message(variant: Variant, post_state: PostState) -> pb.Variant:
    # The stored DueVariant has the tags of Variant's content (a test compares), so that it is read as one.
    message = pb.Variant.FromString(variant.content)
    state = state_for_readers(variant.state, post_state)
    message.state = VARIANT_STATES[state]
    message.remote_id = variant.remote_id
    message.remote_url = variant.remote_url
    message.failure = variant.failure
    if variant.remove_time:
        message.remove_time.FromDatetime(variant.remove_time)
    _set_segment_states(message, state, json.loads(variant.remote_segments))
    return message


def _set_segment_states(message: pb.Variant, state: VariantState, remotes: Sequence[tuple[str, str]]) -> None:
    states = segment_states(state, public=len(remotes), count=len(message.segments))
    for segment, segment_state in zip(message.segments, states, strict=True):
        segment.state = SEGMENT_STATES[segment_state]
    for segment, (remote_id, remote_url) in zip(message.segments, remotes, strict=False):
        segment.remote_id, segment.remote_url = remote_id, remote_url


def _entry_message(item: Change | DeliveryStatus) -> pb.TimelineEntry:
    if isinstance(item, DeliveryStatus):
        return pb.TimelineEntry(
            time=timestamp(item.time),
            variant_state=VARIANT_STATES[item.state],
            cause=CHANGE_CAUSES[ChangeCause.PUBLISHER],
            channel_id=show_id(CHANNEL, item.channel_id),
            detail=item.detail,
        )
    return pb.TimelineEntry(
        time=timestamp(item.time),
        post_state=POST_STATES[item.state],
        cause=CHANGE_CAUSES[item.cause],
        detail=item.detail,
        trace_id=item.trace_id,
    )


def _due_variant(variant: pb.Variant) -> DueVariant:
    """Returns the content of a variant: the fields of DueVariant have the same tags, the others are output only."""
    content = DueVariant.FromString(variant.SerializeToString())
    content.DiscardUnknownFields()
    return content


def _post_id(value: str) -> UUID:
    return parse_id(POST, value, "post_id")
