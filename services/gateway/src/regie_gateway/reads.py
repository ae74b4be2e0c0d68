"""Reads of posts that arrive together travel together: one call and one query serve them all.

A call between services costs more than the post it brings. An idle gateway asks at once, so a lone read is not late.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from opentelemetry import context as otel_context
from regie.scheduler.v1 import scheduler_service_pb2 as pb
from regie.scheduler.v1.scheduler_service_pb2_grpc import SchedulerServiceStub
from regie_chassis import rpc
from regie_chassis.batching import Batcher
from regie_chassis.errors import NotFound, RegieError

MOST = 100  # posts; what the scheduler answers at once


class PostNotFound(NotFound):
    """The caller's workspace has no such post."""


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A post, who asks for it, and the trace of the request that does."""

    identity: str
    post_id: str
    context: otel_context.Context


class PostReads:
    """Gets single posts in batches, each caller's own workspace only."""

    def __init__(self, scheduler: SchedulerServiceStub) -> None:
        self._scheduler = scheduler
        self._batches: Batcher[_Wanted, pb.Post | RegieError] = Batcher(self._read, limit=MOST)

    async def get(self, post_id: str, *, identity: str) -> pb.Post:
        """Returns a post. Raises PostNotFound, or what the scheduler answered. `post_id` must be well-formed."""
        found = await self._batches.submit(_Wanted(identity, post_id, otel_context.get_current()))
        if isinstance(found, RegieError):
            raise found
        return found

    async def _read(self, wanted: Sequence[_Wanted]) -> list[pb.Post | RegieError]:
        by_identity: dict[str, list[_Wanted]] = {}
        for one in wanted:
            by_identity.setdefault(one.identity, []).append(one)
        answers = await asyncio.gather(*(self._ask(group) for group in by_identity.values()))
        found = dict(zip(by_identity, answers, strict=True))
        return [_pick(found[one.identity], one.post_id) for one in wanted]

    async def _ask(self, group: Sequence[_Wanted]) -> dict[str, pb.Post] | RegieError:
        # The call is part of the first request's trace; the others only wait for it.
        token = otel_context.attach(group[0].context)
        try:
            return await self._read_all({one.post_id for one in group}, identity=group[0].identity)
        except RegieError as error:
            return error
        finally:
            otel_context.detach(token)

    async def _read_all(self, post_ids: set[str], *, identity: str) -> dict[str, pb.Post]:
        """Asks until nothing is left: an answer carries so many bytes, and large posts need several."""
        found: dict[str, pb.Post] = {}
        left = post_ids
        while left:
            request = pb.BatchGetPostsRequest(post_ids=left)
            answered = await rpc.call(self._scheduler.BatchGetPosts, request, identity=identity)
            found |= {post.post_id: post for post in answered.posts}
            # What was answered is taken out, so that each call leaves fewer.
            left = set(answered.left_post_ids) - found.keys() if answered.posts else set()
        return found


def _pick(found: dict[str, pb.Post] | RegieError, post_id: str) -> pb.Post | RegieError:
    if isinstance(found, RegieError):
        return found
    if post_id not in found:
        return PostNotFound(f"there is no post {post_id}; list the posts for their ids", field="post_id")
    return found[post_id]
