"""Posts: create, read, edit, schedule, cancel; and how they went."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query, Request, Response
from pydantic import Field
from regie.scheduler.v1 import posts_service_pb2 as pb

from regie_gateway.http.context import request_context
from regie_gateway.http.fields import PageQuery, PostId
from regie_gateway.http.inputs import InvalidRequest
from regie_gateway.http.operations import Operations
from regie_gateway.http.preconditions import etag_of
from regie_gateway.http.responses import json_response
from regie_gateway.resources.planning.post_bodies import CreatePost, EditPost, SchedulePost, variant_messages
from regie_gateway.resources.planning.post_views import STATE_NUMBERS, PostPage, PostState, PostView, show_post
from regie_gateway.resources.planning.timeline import TimelineView, compose_timeline

operations = Operations("posts")


class PostQuery(PageQuery):
    """Which posts of which page."""

    state: list[PostState] = Field(
        default=[], max_length=20, description="Only posts in this state; given several times, in any of these."
    )


@operations.add(
    "GET",
    "/v1/posts/{post_id}",
    scope="posts:read",
    summary="Get a post",
    description="The post with what became of it on each channel, as far as the publisher has told.",
    answer=PostView,
)
async def get_post(request: Request, post_id: PostId) -> Response:
    context = request_context(request)
    return _show(await context.gateway.post_loader.get(post_id, identity=context.identity("scheduler")))


@operations.add(
    "POST",
    "/v1/posts",
    scope="posts:write",
    summary="Create a post",
    description="With `publish_at` it is scheduled, without it a draft. Each channel has one variant.",
    answer=PostView,
    status=201,
    body="json",
)
async def create_post(request: Request, body: CreatePost) -> Response:
    context = request_context(request)
    at = body.publish_at
    asked = pb.CreatePostRequest(
        request_id=context.request_id,
        title=body.title,
        variants=variant_messages(body.variants),
        publish_local_time=at.local_time if at else "",
        time_zone=at.time_zone if at else "",
        occurrence=at.occurrence or "" if at else "",
    )
    post = (await context.call(context.backends.posts.CreatePost, asked)).post
    return _show(post, status=201, location=f"/v1/posts/{post.post_id}")


@operations.add(
    "GET",
    "/v1/posts",
    scope="posts:read",
    summary="List posts",
    description="The newest first. `state` may be given several times.",
    answer=PostPage,
)
async def list_posts(request: Request, page: Annotated[PostQuery, Query()]) -> Response:
    context = request_context(request)
    asked = pb.ListPostsRequest(
        page_size=page.page_size,
        page_token=page.page_token,
        states=[pb.PostState.ValueType(STATE_NUMBERS[state]) for state in dict.fromkeys(page.state)],
    )
    answered = await context.call(context.backends.posts.ListPosts, asked)
    posts = [show_post(post) for post in answered.posts]
    return json_response({"posts": posts, "next_page_token": answered.next_page_token})


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
async def edit_post(request: Request, post_id: PostId, body: EditPost) -> Response:
    context = request_context(request)
    if context.revision and body.revision and context.revision != body.revision:
        raise InvalidRequest("If-Match and revision name two revisions; give one of them", field="revision")
    asked = pb.EditPostRequest(
        request_id=context.request_id,
        post_id=post_id,
        revision=body.revision or context.revision,
        title=body.title,
        variants=variant_messages(body.variants or []),
    )
    return _show((await context.call(context.backends.posts.EditPost, asked)).post)


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
async def schedule_post(request: Request, post_id: PostId, body: SchedulePost) -> Response:
    context = request_context(request)
    asked = pb.SchedulePostRequest(
        request_id=context.request_id,
        post_id=post_id,
        publish_local_time=body.publish_at.local_time,
        time_zone=body.publish_at.time_zone,
        occurrence=body.publish_at.occurrence or "",
        revision=context.revision,
    )
    return _show((await context.call(context.backends.posts.SchedulePost, asked)).post)


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
async def cancel_post(request: Request, post_id: PostId) -> Response:
    context = request_context(request)
    asked = pb.CancelPostRequest(request_id=context.request_id, post_id=post_id, revision=context.revision)
    return _show((await context.call(context.backends.posts.CancelPost, asked)).post)


@operations.add(
    "GET",
    "/v1/posts/{post_id}/timeline",
    scope="posts:read",
    summary="Tell every change of a post and its deliveries",
    description="The oldest first. `complete` is false while the deliveries cannot be asked for.",
    answer=TimelineView,
)
async def get_post_timeline(request: Request, post_id: PostId) -> Response:
    return json_response(await compose_timeline(request_context(request), post_id))


def _show(post: pb.Post, *, status: int = 200, location: str = "") -> Response:
    return json_response(show_post(post), status=status, location=location, etag=etag_of(post.revision))
