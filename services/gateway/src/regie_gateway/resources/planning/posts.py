"""Posts: create, read, edit, schedule, cancel; and how they went."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Query
from pydantic import Field
from regie.scheduler.v1 import posts_service_pb2 as pb

from regie_gateway.http.context import RequestContext
from regie_gateway.http.fields import PageQuery, PostId
from regie_gateway.http.inputs import InvalidRequest
from regie_gateway.http.operations import Operations
from regie_gateway.resources.planning.post_bodies import CreatePost, EditPost, SchedulePost, variant_messages
from regie_gateway.resources.planning.post_views import PostPage, PostState, PostView
from regie_gateway.resources.planning.timeline import TimelineView, compose_timeline

operations = Operations("posts", "What is planned, when it leaves, and how it went.")


class PostQuery(PageQuery):
    """The states to list, and the page."""

    state: list[PostState] = Field(
        default=[], max_length=20, description="Only posts in this state; given several times, in any of these."
    )


@operations.add(
    "GET",
    "/v1/posts/{post_id}",
    scope="posts:read",
    summary="Get a post",
    description="The post, with its state on each channel as last reported by the publisher.",
    answer=PostView,
)
async def get_post(context: RequestContext, post_id: PostId) -> pb.Post:
    return await context.gateway.post_loader.get(post_id, identity=context.identity("scheduler"))


@operations.add(
    "POST",
    "/v1/posts",
    scope="posts:write",
    summary="Create a post",
    description="With `publish_at` it is scheduled, without it a draft. Each channel has one variant.",
    answer=PostView,
    status=201,
    location="/v1/posts/{post_id}",
    body="json",
)
async def create_post(context: RequestContext, body: CreatePost) -> pb.Post:
    at = body.publish_at
    request = pb.CreatePostRequest(
        request_id=context.request_id,
        title=body.title,
        variants=variant_messages(body.variants),
        publish_local_time=at.local_time if at else "",
        time_zone=at.time_zone if at else "",
        occurrence=at.occurrence or "" if at else "",
    )
    return (await context.call(context.backends.posts.CreatePost, request)).post


@operations.add(
    "GET",
    "/v1/posts",
    scope="posts:read",
    summary="List posts",
    description="The newest first. `state` may be given several times.",
    answer=PostPage,
)
async def list_posts(context: RequestContext, page: Annotated[PostQuery, Query()]) -> pb.ListPostsResponse:
    request = pb.ListPostsRequest(
        page_size=page.page_size,
        page_token=page.page_token,
        states=[pb.PostState.Value(f"POST_STATE_{state.upper()}") for state in dict.fromkeys(page.state)],
    )
    return await context.call(context.backends.posts.ListPosts, request)


@operations.add(
    "PATCH",
    "/v1/posts/{post_id}",
    scope="posts:write",
    summary="Edit a post that has not left yet",
    description=(
        "Replaces what is given; `variants` replaces all of them. Values that are there already change nothing, and "
        "the revision stays."
    ),
    answer=PostView,
    body="json",
    reads="posts:read",
    if_match=True,
)
async def edit_post(context: RequestContext, post_id: PostId, body: EditPost) -> pb.Post:
    if context.revision and body.revision and context.revision != body.revision:
        raise InvalidRequest("If-Match and revision name two revisions; give one of them", field="revision")
    request = pb.EditPostRequest(
        request_id=context.request_id,
        post_id=post_id,
        revision=body.revision or context.revision,
        title=body.title,
        variants=variant_messages(body.variants or []),
    )
    return (await context.call(context.backends.posts.EditPost, request)).post


@operations.add(
    "POST",
    "/v1/posts/{post_id}/schedule",
    scope="posts:write",
    summary="Set or move the time at which a post leaves",
    description=(
        "Of a draft or a scheduled post. A time that does not exist where clocks are moved forward is refused with the "
        "next one that does; of a time that comes twice, `occurrence` chooses. Another time is another revision."
    ),
    answer=PostView,
    body="json",
    reads="posts:read",
    if_match=True,
)
async def schedule_post(context: RequestContext, post_id: PostId, body: SchedulePost) -> pb.Post:
    request = pb.SchedulePostRequest(
        request_id=context.request_id,
        post_id=post_id,
        publish_local_time=body.publish_at.local_time,
        time_zone=body.publish_at.time_zone,
        occurrence=body.publish_at.occurrence or "",
        revision=context.revision,
    )
    return (await context.call(context.backends.posts.SchedulePost, request)).post


@operations.add(
    "POST",
    "/v1/posts/{post_id}/cancel",
    scope="posts:write",
    summary="Stop a post",
    description=(
        "A post that has not left is cancelled. Of one that is on its way, whatever no call has left for is stopped: "
        "`cancellation.open_channel_ids` names the channels where it can still appear. A thread whose first part is "
        "out, or may be, is finished."
    ),
    answer=PostView,
    reads="posts:read",
    if_match=True,
)
async def cancel_post(context: RequestContext, post_id: PostId) -> pb.Post:
    request = pb.CancelPostRequest(request_id=context.request_id, post_id=post_id, revision=context.revision)
    return (await context.call(context.backends.posts.CancelPost, request)).post


@operations.add(
    "GET",
    "/v1/posts/{post_id}/timeline",
    scope="posts:read",
    summary="List every change of a post and its deliveries",
    description="The oldest first. `complete` is false while the deliveries cannot be read.",
    answer=TimelineView,
)
async def get_post_timeline(context: RequestContext, post_id: PostId) -> dict[str, Any]:
    return await compose_timeline(context, post_id)
