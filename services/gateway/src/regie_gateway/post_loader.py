"""Loads posts in batches: reads that arrive together share one call and one query.

A call between services costs more than the post it brings. An idle gateway asks at once, so a lone read is not late.
An answer holds as many posts as fit; the others go with a later batch, so that one caller's large posts take turns.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from opentelemetry import context as otel_context
from regie.scheduler.v1 import posts_service_pb2 as pb
from regie.scheduler.v1.posts_service_pb2_grpc import PostsServiceStub
from regie_chassis.boundary import rpc
from regie_chassis.boundary.errors import NotFound, RegieError
from regie_chassis.data.batching import Batcher

MAX_BATCH = 100  # posts; the scheduler returns no more at once


_Result = pb.Post | RegieError | None
"""A post, an error, or None for a post that the answer had no room for."""


class PostNotFound(NotFound):
    """The caller's workspace has no such post."""


@dataclass(frozen=True, slots=True)
class _Lookup:
    """The id of a post, the identity of its reader, and the trace of the request."""

    identity: str
    post_id: str
    context: otel_context.Context


class PostLoader:
    """Gets single posts in batches, each caller's own workspace only."""

    def __init__(self, scheduler: PostsServiceStub) -> None:
        self._scheduler = scheduler
        self._batches: Batcher[_Lookup, _Result] = Batcher(self._read, limit=MAX_BATCH)

    async def get(self, post_id: str, *, identity: str) -> pb.Post:
        """Returns a post. Raises PostNotFound or the scheduler's error. `post_id` must be well-formed."""
        lookup = _Lookup(identity, post_id, otel_context.get_current())
        while (result := await self._batches.submit(lookup)) is None:
            pass  # the answer was full before it came to this post; each answer holds one post at least
        if isinstance(result, RegieError):
            raise result
        return result

    async def _read(self, lookups: Sequence[_Lookup]) -> list[_Result]:
        by_identity: dict[str, list[_Lookup]] = {}
        for lookup in lookups:
            by_identity.setdefault(lookup.identity, []).append(lookup)
        answers = await asyncio.gather(*(self._ask(group) for group in by_identity.values()))
        posts = dict(zip(by_identity, answers, strict=True))
        return [_pick(posts[lookup.identity], lookup.post_id) for lookup in lookups]

    async def _ask(self, group: Sequence[_Lookup]) -> Mapping[str, pb.Post | None] | RegieError:
        # In the order of the lookups, so that posts that were left out before come first now.
        request = pb.BatchGetPostsRequest(post_ids=dict.fromkeys(lookup.post_id for lookup in group))
        # The call is part of the first request's trace; the others only wait for it.
        token = otel_context.attach(group[0].context)
        try:
            response = await rpc.call(self._scheduler.BatchGetPosts, request, identity=group[0].identity)
        except RegieError as error:
            return error
        finally:
            otel_context.detach(token)
        posts: dict[str, pb.Post | None] = dict.fromkeys(response.left_post_ids)
        return posts | {post.post_id: post for post in response.posts}


def _pick(posts: Mapping[str, pb.Post | None] | RegieError, post_id: str) -> _Result:
    if isinstance(posts, RegieError):
        return posts
    if post_id not in posts:
        return PostNotFound(f"there is no post {post_id}; list the posts for their ids", field="post_id")
    return posts[post_id]
