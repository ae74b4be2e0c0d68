"""The services behind the gateway in one process: real PostgreSQL and NATS, and a network in memory that misbehaves."""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from pydantic import SecretStr
from regie.metrics.v1.post_metrics_service_pb2 import GetPostMetricsRequest
from regie.metrics.v1.post_metrics_service_pb2_grpc import PostMetricsServiceStub
from regie.publisher.v1.channels_service_pb2 import ConnectChannelRequest
from regie.publisher.v1.channels_service_pb2_grpc import ChannelsServiceStub
from regie.scheduler.v1 import posts_service_pb2 as pb
from regie.scheduler.v1.posts_service_pb2_grpc import PostsServiceStub
from regie_chassis.boundary.identity import Caller, Signer, new_key
from regie_chassis.boundary.ids import new_id
from regie_chassis.boundary.rpc import call, open_channel
from regie_chassis.process.service import Service
from regie_local.nats import EmbeddedNats
from regie_local.services import service_specs
from regie_local.testing.fixtures import NewDatabase
from regie_local.testing.waiting import settle, until
from regie_networks.observation import Observation
from regie_publisher.channels.sealing import new_master_key
from regie_publisher.testing.network import FakeConnector, Play

SERVICES = Path(__file__).parents[1] / "services"
POSTS = 24
PATIENCE = 60.0  # seconds; an unknown outcome is looked for after a while


STUBS: dict[str, Any] = {
    "scheduler": PostsServiceStub,
    "publisher": ChannelsServiceStub,
    "metrics": PostMetricsServiceStub,
}


@dataclass(frozen=True, slots=True)
class Inside:
    """The running services, the network they talk to, and stubs that call them as one workspace."""

    services: dict[str, Service]
    network: FakeConnector
    stubs: dict[str, Any]
    signer: Signer
    caller: Caller

    async def ask(self, service: str, method: str, request: Any) -> Any:
        identity = self.signer.sign(self.caller, audience=service, now=datetime.now(UTC))
        return await call(getattr(self.stubs[service], method), request, identity=identity)

    async def settle(self) -> None:
        """Waits until every event is relayed and handled everywhere."""
        running = self.services.values()
        consumers = [consumer for service in running for consumer in service.events.consumers]
        await settle([service.database for service in running], consumers, self.services["scheduler"].broker)


@pytest.fixture
async def inside(new_database: NewDatabase, nats_server: EmbeddedNats, tmp_path: Path) -> AsyncIterator[Inside]:
    key = new_key()
    network = FakeConnector(quiet=timedelta(seconds=2))
    media = {"master_key": SecretStr(new_master_key()), "media_url": tmp_path.as_uri()}
    names = [name for name, spec in service_specs().items() if spec.rpc_port]
    databases = {name: await new_database(SERVICES / name / "migrations") for name in names}

    def shared(name: str) -> dict[str, Any]:
        public = SecretStr(json.dumps(key.as_dict(private=False)))
        url = SecretStr(databases[name].url)
        return {"database_url": url, "nats_url": nats_server.url, "identity_public_key": public}

    services = {name: _build(name, **shared(name)) for name in names if name != "publisher"}
    services["publisher"] = _build("publisher", {"connectors": {"fake": network}}, **shared("publisher"), **media)
    async with AsyncExitStack() as stack:
        for service in services.values():
            await stack.enter_async_context(service.app)
        stubs = {name: await stack.enter_async_context(_stub(services[name], kind)) for name, kind in STUBS.items()}
        yield Inside(services, network, stubs, Signer(key), Caller(new_id(), "test"))


def _build(name: str, parts: Mapping[str, Any] | None = None, **settings: Any) -> Service:
    build = import_module(f"regie_{name}.app").build
    service: Service = build(get_type_hints(build)["settings"](**settings), **(parts or {}))
    return service


@asynccontextmanager
async def _stub(service: Service, kind: Any) -> AsyncIterator[Any]:
    assert service.rpc is not None
    async with open_channel(service.rpc.target) as channel:
        yield kind(channel)


async def test_posts_come_to_their_end_once_whatever_the_network_does(inside: Inside) -> None:
    inside.network.script = deque([Play.LOST_AFTER, Play.LOST_BEFORE, Play.NOT_SENT, Play.REFUSE, Play.CRASH_AFTER])
    asked = ConnectChannelRequest(network="fake", credentials={"access_token": "fake-one"})
    channel_id = (await inside.ask("publisher", "ConnectChannel", asked)).channel.channel_id
    at = (datetime.now(UTC) + timedelta(seconds=2)).replace(tzinfo=None).isoformat()
    for number in range(POSTS):
        variant = pb.Variant(channel_id=channel_id, segments=[pb.Segment(text=f"post {number}")])
        created = pb.CreatePostRequest(title="t", variants=[variant], publish_local_time=at, time_zone="UTC")
        await inside.ask("scheduler", "CreatePost", created)

    async def ended() -> Counter[str]:
        posts = (await inside.ask("scheduler", "ListPosts", pb.ListPostsRequest(page_size=100))).posts
        states = Counter(pb.PostState.Name(post.state) for post in posts)
        done = states["POST_STATE_PUBLISHED"] + states["POST_STATE_FAILED"] == POSTS
        return states if done else Counter()

    states = await until(ended, timeout=PATIENCE, what="the end of every post")
    assert states == {"POST_STATE_PUBLISHED": POSTS - 1, "POST_STATE_FAILED": 1}
    texts = Counter(post.text for post in inside.network.posts)
    assert set(texts.values()) == {1}
    assert len(texts) == POSTS - 1

    inside.network.seen = [Observation(post.id, {"likes": 3}) for post in inside.network.posts]
    await inside.settle()
    published = next(
        post
        for post in (await inside.ask("scheduler", "ListPosts", pb.ListPostsRequest(page_size=100))).posts
        if post.state == pb.POST_STATE_PUBLISHED
    )

    async def counted() -> dict[str, int]:
        request = GetPostMetricsRequest(post_id=published.post_id)
        return dict((await inside.ask("metrics", "GetPostMetrics", request)).totals)

    assert await until(counted, timeout=PATIENCE, what="numbers") == {"likes": 3}
