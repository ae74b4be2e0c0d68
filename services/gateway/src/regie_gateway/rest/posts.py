"""Posts: create, read, edit, schedule, cancel; and how they went."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query, Request, Response
from pydantic import Field
from regie.publisher.v1 import publisher_service_pb2 as publisher_pb
from regie.scheduler.v1 import scheduler_service_pb2 as pb

from regie_gateway.rest.delivery_json import DeliveryView, ResolveDelivery, show_delivery
from regie_gateway.rest.edge import call_of, reply
from regie_gateway.rest.fields import DeliveryId, PageQuery, PostId
from regie_gateway.rest.operations import Operations
from regie_gateway.rest.post_json import (
    STATE_NUMBERS,
    CreatePost,
    EditPost,
    PostPage,
    PostState,
    PostView,
    SchedulePost,
    show_post,
    variant_messages,
)
from regie_gateway.rest.timeline import TimelineView, compose_timeline

operations = Operations("posts")


class PostQuery(PageQuery):
    """Which posts of which page."""

    state: PostState | None = Field(default=None, description="Only posts in this state.")


@operations.add("GET", "/v1/posts/{post_id}", scope="posts:read", summary="Get a post", answer=PostView)
async def get_post(request: Request, post_id: PostId) -> Response:
    call = call_of(request)
    return reply(show_post(await call.edge.post_reads.get(post_id, identity=call.identity("scheduler"))))


@operations.add(
    "POST", "/v1/posts", scope="posts:write", summary="Create a post", answer=PostView, status=201, body="json"
)
async def create_post(request: Request, body: CreatePost) -> Response:
    call = call_of(request)
    at = body.publish_at
    asked = pb.CreatePostRequest(
        request_id=call.request_id,
        title=body.title,
        variants=variant_messages(body.variants),
        publish_local_time=at.local_time if at else "",
        time_zone=at.time_zone if at else "",
    )
    answered = await call.ask(call.edge.backends.scheduler.CreatePost, asked)
    return reply(show_post(answered.post), status=201, location=f"/v1/posts/{answered.post.post_id}")


@operations.add("GET", "/v1/posts", scope="posts:read", summary="List posts", answer=PostPage)
async def list_posts(request: Request, page: Annotated[PostQuery, Query()]) -> Response:
    call = call_of(request)
    asked = pb.ListPostsRequest(
        page_size=page.page_size,
        page_token=page.page_token,
        state=pb.PostState.ValueType(STATE_NUMBERS[page.state] if page.state else 0),
    )
    answered = await call.ask(call.edge.backends.scheduler.ListPosts, asked)
    posts = [show_post(post) for post in answered.posts]
    return reply({"posts": posts, "next_page_token": answered.next_page_token})


@operations.add(
    "PATCH",
    "/v1/posts/{post_id}",
    scope="posts:write",
    summary="Edit a post that has not left yet",
    answer=PostView,
    body="json",
    problems=(409,),
)
async def edit_post(request: Request, post_id: PostId, body: EditPost) -> Response:
    call = call_of(request)
    asked = pb.EditPostRequest(
        request_id=call.request_id,
        post_id=post_id,
        revision=body.revision or 0,
        title=body.title,
        variants=variant_messages(body.variants or []),
    )
    answered = await call.ask(call.edge.backends.scheduler.EditPost, asked)
    return reply(show_post(answered.post))


@operations.add(
    "POST",
    "/v1/posts/{post_id}/schedule",
    scope="posts:write",
    summary="Set or move the time at which a post leaves",
    answer=PostView,
    body="json",
)
async def schedule_post(request: Request, post_id: PostId, body: SchedulePost) -> Response:
    call = call_of(request)
    asked = pb.SchedulePostRequest(
        request_id=call.request_id,
        post_id=post_id,
        publish_local_time=body.publish_at.local_time,
        time_zone=body.publish_at.time_zone,
    )
    answered = await call.ask(call.edge.backends.scheduler.SchedulePost, asked)
    return reply(show_post(answered.post))


@operations.add("POST", "/v1/posts/{post_id}/cancel", scope="posts:write", summary="Stop a post", answer=PostView)
async def cancel_post(request: Request, post_id: PostId) -> Response:
    call = call_of(request)
    asked = pb.CancelPostRequest(request_id=call.request_id, post_id=post_id)
    answered = await call.ask(call.edge.backends.scheduler.CancelPost, asked)
    return reply(show_post(answered.post))


@operations.add(
    "GET",
    "/v1/posts/{post_id}/timeline",
    scope="posts:read",
    summary="Tell every change of a post and its deliveries",
    answer=TimelineView,
)
async def get_post_timeline(request: Request, post_id: PostId) -> Response:
    return reply(await compose_timeline(call_of(request), post_id))


@operations.add(
    "POST",
    "/v1/deliveries/{delivery_id}/resolve",
    scope="posts:write",
    summary="Say what became of a delivery that only a person can know about",
    answer=DeliveryView,
    body="json",
)
async def resolve_delivery(request: Request, delivery_id: DeliveryId, body: ResolveDelivery) -> Response:
    call = call_of(request)
    asked = publisher_pb.ResolveDeliveryRequest(
        request_id=call.request_id,
        delivery_id=delivery_id,
        published=body.published,
        remote_url=body.remote_url,
    )
    answered = await call.ask(call.edge.backends.publisher.ResolveDelivery, asked)
    return reply(show_delivery(answered.delivery))
