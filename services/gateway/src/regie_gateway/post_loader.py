"""Reads of posts that arrive together travel together: one call and one query serve them all.

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
from regie_chassis import rpc
from regie_chassis.batching import Batcher
from regie_chassis.errors import NotFound, RegieError

MAX_BATCH = 100  # posts; what the scheduler answers at once


_Found = pb.Post | RegieError | None
"""A post, an error, or None for a post that the answer had no room for."""


class PostNotFound(NotFound):
    """The caller's workspace has no such post."""


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A post, who asks for it, and the trace of the request that does."""

    identity: str
    post_id: str
    context: otel_context.Context


class PostLoader:
    """Gets single posts in batches, each caller's own workspace only."""

    def __init__(self, scheduler: PostsServiceStub) -> None:
        self._scheduler = scheduler
        self._batches: Batcher[_Wanted, _Found] = Batcher(self._read, limit=MAX_BATCH)

    async def get(self, post_id: str, *, identity: str) -> pb.Post:
        """Returns a post. Raises PostNotFound, or what the scheduler answered. `post_id` must be well-formed."""
        wanted = _Wanted(identity, post_id, otel_context.get_current())
        while (found := await self._batches.submit(wanted)) is None:
            pass  # the answer was full before it came to this post; each answer holds one post at least
        if isinstance(found, RegieError):
            raise found
        return found

    async def _read(self, wanted: Sequence[_Wanted]) -> list[_Found]:
        by_identity: dict[str, list[_Wanted]] = {}
        for one in wanted:
            by_identity.setdefault(one.identity, []).append(one)
        answers = await asyncio.gather(*(self._ask(group) for group in by_identity.values()))
        found = dict(zip(by_identity, answers, strict=True))
        return [_pick(found[one.identity], one.post_id) for one in wanted]

    async def _ask(self, group: Sequence[_Wanted]) -> Mapping[str, pb.Post | None] | RegieError:
        # In the order of asking, so that what was left out before comes first now.
        request = pb.BatchGetPostsRequest(post_ids=dict.fromkeys(one.post_id for one in group))
        # The call is part of the first request's trace; the others only wait for it.
        token = otel_context.attach(group[0].context)
        try:
            answered = await rpc.call(self._scheduler.BatchGetPosts, request, identity=group[0].identity)
        except RegieError as error:
            return error
        finally:
            otel_context.detach(token)
        posts: dict[str, pb.Post | None] = dict.fromkeys(answered.left_post_ids)
        return posts | {post.post_id: post for post in answered.posts}


def _pick(found: Mapping[str, pb.Post | None] | RegieError, post_id: str) -> _Found:
    if isinstance(found, RegieError):
        return found
    if post_id not in found:
        return PostNotFound(f"there is no post {post_id}; list the posts for their ids", field="post_id")
    return found[post_id]
