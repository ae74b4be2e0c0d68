"""Reads of posts that arrive together: fewer calls, and still each one's own answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any
from uuid import UUID

import pytest
from joserfc.jwk import OKPKey
from opentelemetry import context as otel_context
from regie.ids.v1.prefixes import API_KEY, CHANNEL, POST
from regie.scheduler.v1 import posts_service_pb2 as pb
from regie.scheduler.v1.posts_service_pb2_grpc import PostsServiceStub
from regie_chassis.boundary.errors import RegieError
from regie_chassis.boundary.identity import Caller, Signer
from regie_chassis.boundary.ids import new_id, show_id
from regie_chassis.boundary.rpc import call, open_channel
from regie_chassis.boundary.telemetry import context_of
from regie_gateway.post_loader import MAX_BATCH, PostLoader, PostNotFound
from regie_gateway.testing.backends import FakeBackends
from regie_local.testing.clock import FakeClock

KEY = OKPKey.generate_key("Ed25519")
FIRST = "0123456789abcdef0123456789abcdef"
SECOND = "fedcba9876543210fedcba9876543210"


class Newsroom:
    """Two workspaces' worth of readers in front of one scheduler."""

    def __init__(self, backends: FakeBackends, scheduler: PostsServiceStub, clock: FakeClock) -> None:
        self.scheduler = backends.scheduler
        self.reads = PostLoader(scheduler)
        self._stub = scheduler
        self._signer = Signer(KEY)
        self._clock = clock
        self.ours, self.theirs = self._identity(new_id()), self._identity(new_id())

    def _identity(self, workspace_id: UUID) -> str:
        caller = Caller(workspace_id, show_id(API_KEY, new_id()))
        return self._signer.sign(caller, audience="scheduler", now=self._clock.now())

    async def post(self, identity: str) -> str:
        """Creates a post and returns its id."""
        variant = pb.Variant(channel_id=show_id(CHANNEL, new_id()), segments=[pb.Segment(text="hello")])
        request = pb.CreatePostRequest(request_id=str(new_id()), variants=[variant])
        created: pb.CreatePostResponse = await call(self._stub.CreatePost, request, identity=identity)
        return created.post.post_id

    async def read(self, *wanted: tuple[str, str]) -> Sequence[Any]:
        """Reads posts all at once, given as (identity, post id); errors stand where their posts would."""
        gets = (self.reads.get(post_id, identity=identity) for identity, post_id in wanted)
        return await asyncio.gather(*gets, return_exceptions=True)

    def asked(self) -> list[pb.BatchGetPostsRequest]:
        """Returns the calls that were made."""
        return [one for one in self.scheduler.memory.received if isinstance(one, pb.BatchGetPostsRequest)]


@pytest.fixture
async def newsroom(clock: FakeClock) -> AsyncIterator[Newsroom]:
    backends = FakeBackends(KEY, clock)
    await backends.server.start()
    async with open_channel(backends.server.target) as channel:
        yield Newsroom(backends, PostsServiceStub(channel), clock)
    await backends.server.stop()


async def test_reads_at_the_same_time_share_calls(newsroom: Newsroom) -> None:
    posts = [await newsroom.post(newsroom.ours) for _ in range(MAX_BATCH + 20)]
    found = await newsroom.read(*((newsroom.ours, post_id) for post_id in posts))
    assert [post.post_id for post in found] == posts
    assert [len(one.post_ids) for one in newsroom.asked()] == [MAX_BATCH, 20]


async def test_many_readers_of_one_post_ask_for_it_once(newsroom: Newsroom) -> None:
    post_id = await newsroom.post(newsroom.ours)
    found = await newsroom.read(*[(newsroom.ours, post_id)] * 50)
    assert {post.post_id for post in found} == {post_id}
    assert [list(one.post_ids) for one in newsroom.asked()] == [[post_id]]


async def test_another_workspaces_post_is_not_found_within_the_same_batch(newsroom: Newsroom) -> None:
    ours, theirs = await newsroom.post(newsroom.ours), await newsroom.post(newsroom.theirs)
    mine, stolen, own, peeked = await newsroom.read(
        (newsroom.ours, ours), (newsroom.ours, theirs), (newsroom.theirs, theirs), (newsroom.theirs, ours)
    )
    assert (mine.post_id, own.post_id) == (ours, theirs)
    for refused in (stolen, peeked):
        assert isinstance(refused, PostNotFound)
        assert (refused.http_status, refused.field) == (404, "post_id")
    assert len(newsroom.asked()) == 2  # one call for each caller


async def test_an_unknown_post_does_not_fail_its_neighbours(newsroom: Newsroom) -> None:
    posts = [await newsroom.post(newsroom.ours) for _ in range(2)]
    unknown = show_id(POST, new_id())
    before, missing, after = await newsroom.read(*((newsroom.ours, one) for one in (posts[0], unknown, posts[1])))
    assert [before.post_id, after.post_id] == posts
    assert isinstance(missing, PostNotFound)
    assert unknown in missing.message


async def test_an_outage_of_the_scheduler_fails_the_whole_batch_and_not_the_next(newsroom: Newsroom) -> None:
    post_id = await newsroom.post(newsroom.ours)
    newsroom.scheduler.memory.down = True
    failed = await newsroom.read(*[(newsroom.ours, post_id)] * 3, (newsroom.theirs, post_id))
    assert all(isinstance(one, RegieError) for one in failed)
    assert [one.http_status for one in failed] == [503] * 4
    newsroom.scheduler.memory.down = False
    (found,) = await newsroom.read((newsroom.ours, post_id))
    assert found.post_id == post_id


async def test_the_call_belongs_to_the_trace_of_the_first_request(newsroom: Newsroom) -> None:
    posts = [await newsroom.post(newsroom.ours) for _ in range(2)]

    async def read(post_id: str, trace_id: str) -> pb.Post:
        token = otel_context.attach(context_of(f"00-{trace_id}-0123456789abcdef-01"))
        try:
            return await newsroom.reads.get(post_id, identity=newsroom.ours)
        finally:
            otel_context.detach(token)

    first, second = await asyncio.gather(read(posts[0], FIRST), read(posts[1], SECOND))
    assert [first.post_id, second.post_id] == posts
    assert newsroom.scheduler.read_traces == [FIRST]
    await read(posts[1], SECOND)  # alone, the second is the first of its own call
    assert newsroom.scheduler.read_traces == [FIRST, SECOND]


async def test_a_small_post_is_read_beside_large_ones_that_fill_the_answers(newsroom: Newsroom) -> None:
    newsroom.scheduler.posts_an_answer = 3
    posts = [await newsroom.post(newsroom.ours) for _ in range(10)]
    found = await newsroom.read(*((newsroom.ours, post_id) for post_id in posts))
    assert [post.post_id for post in found] == posts
    assert [len(one.post_ids) for one in newsroom.asked()] == [10, 7, 4, 1]
