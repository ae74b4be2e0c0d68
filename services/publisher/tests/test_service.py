"""The whole service: events from a real broker, calls over gRPC, and the sandbox network as the oracle."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from obstore.store import LocalStore
from regie.ids.v1.prefixes import POST
from regie.publisher.v1 import channels_service_pb2 as channels_pb
from regie.publisher.v1 import deliveries_service_pb2 as deliveries_pb
from regie.publisher.v1 import media_service_pb2 as media_pb
from regie.publisher.v1.channels_service_pb2_grpc import ChannelsServiceStub
from regie.publisher.v1.deliveries_service_pb2_grpc import DeliveriesServiceStub
from regie.publisher.v1.media_service_pb2_grpc import MediaServiceStub
from regie.scheduler.events.v1.scheduler_events_pb2 import DueSegment, DueVariant, PostDue
from regie_chassis.boundary.enums import names_of
from regie_chassis.boundary.identity import Caller, Signer, new_key
from regie_chassis.boundary.ids import new_id, show_id
from regie_chassis.boundary.rpc import RemoteError, call, open_channel
from regie_chassis.data.database import Database
from regie_chassis.data.upload_area import UploadArea
from regie_chassis.events.messaging import Envelope, headers_of, stream_spec, subject_of
from regie_chassis.events.nats_broker import NatsBroker
from regie_chassis.process.service import Service
from regie_local.nats import EmbeddedNats
from regie_local.testing.service_fixtures import settings_on
from regie_local.testing.waiting import until
from regie_publisher.app import build
from regie_publisher.channels.sealing import new_master_key
from regie_publisher.fairness.hosts import FIRST_WINDOW
from regie_publisher.settings import PublisherSettings
from regie_publisher.testing.pictures import many_scans, plain, telling_exif
from regie_sandbox.testing import RunningSandbox, running_sandbox

STATES = names_of(deliveries_pb.DeliveryState.DESCRIPTOR)

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@dataclass(slots=True)
class House:
    """A running publisher, its caller, and the network it talks to."""

    service: Service
    channels: ChannelsServiceStub
    media: MediaServiceStub
    deliveries: DeliveriesServiceStub
    token: str
    signer: Signer
    caller: Caller
    sandbox: RunningSandbox
    broker: NatsBroker

    async def connect(self, handle: str, **credentials: str) -> str:
        """Connects an account and returns its channel id."""
        request = channels_pb.ConnectChannelRequest(
            network="sandbox",
            server_url=self.sandbox.url,
            credentials={"access_token": f"sandbox-{handle}", **credentials},
        )
        answer = await call(self.channels.ConnectChannel, request, identity=self.token)
        return answer.channel.channel_id

    async def due(self, channel_id: str, *texts: str) -> str:
        """Publishes PostDue as the scheduler does and returns the post."""
        publish_time, miss_time = Timestamp(), Timestamp()
        now = datetime.now(UTC)
        publish_time.FromDatetime(now)
        miss_time.FromDatetime(now + timedelta(minutes=10))
        message = PostDue(
            post_id=show_id(POST, new_id()),
            revision=1,
            publish_time=publish_time,
            miss_time=miss_time,
            variants=[DueVariant(channel_id=channel_id, segments=[DueSegment(text=text) for text in texts])],
        )
        name, event_id = message.DESCRIPTOR.full_name, new_id()
        headers = headers_of(
            name, event_id=event_id, workspace_id=self.caller.workspace_id, time=now, traceparent=TRACEPARENT
        )
        envelope = Envelope(
            subject_of(name, self.caller.workspace_id), str(event_id), message.SerializeToString(), headers
        )
        assert await self.broker.publish([envelope]) != [None]
        return message.post_id

    async def delivery(self, post_id: str) -> deliveries_pb.Delivery | None:
        """Returns the one delivery of a post."""
        request = deliveries_pb.ListDeliveriesRequest(post_id=post_id)
        answer = await call(self.deliveries.ListDeliveries, request, identity=self.token)
        return answer.deliveries[0] if answer.deliveries else None

    async def until_state(self, post_id: str, state: str) -> deliveries_pb.Delivery:
        """Waits until the post's delivery is in the state."""

        async def look() -> deliveries_pb.Delivery | None:
            delivery = await self.delivery(post_id)
            return delivery if delivery and STATES[delivery.state] == state else None

        found = await until(look, what=f"{post_id} {state}")
        assert found is not None
        return found


@asynccontextmanager
async def running_house(
    database: Database, sandbox: RunningSandbox, broker: NatsBroker, nats_url: str, media: Path
) -> AsyncIterator[House]:
    key = new_key()
    settings = settings_on(
        PublisherSettings,
        database,
        key,
        nats_url=nats_url,
        master_key=new_master_key(),
        allowed_hosts=(urlsplit(sandbox.url).netloc,),
        media_url=f"file://{media}",
        quiet_seconds=2,
        drain_seconds=10,
    )
    caller = Caller(new_id(), "test")
    await broker.ensure_stream(stream_spec("scheduler"))
    service = build(settings)
    async with service.app:
        assert service.rpc is not None
        async with open_channel(service.rpc.target) as channel:
            signer = Signer(key)
            token = signer.sign(caller, audience="publisher", now=datetime.now(UTC))
            stubs = ChannelsServiceStub(channel), MediaServiceStub(channel), DeliveriesServiceStub(channel)
            yield House(service, *stubs, token, signer, caller, sandbox, broker)


@pytest.fixture
async def house(
    database: Database, broker: NatsBroker, nats_server: EmbeddedNats, tmp_path: Path
) -> AsyncIterator[House]:
    """A publisher with everything real around it."""
    async with (
        running_sandbox() as sandbox,
        running_house(database, sandbox, broker, nats_server.url, tmp_path / "media") as house,
    ):
        yield house


async def test_a_due_post_reaches_the_network_and_tells_its_timeline(house: House) -> None:
    channel = await house.connect("ada")
    delivery = await house.until_state(await house.due(channel, "hello"), "published")
    [post] = await house.sandbox.posts()
    assert (post["text"], post["account"], delivery.remote_id) == ("hello", "ada", post["id"])
    assert [STATES[change.state] for change in delivery.changes] == ["pending", "claimed", "publishing", "published"]
    trace_id = TRACEPARENT.split("-")[1]
    assert {change.trace_id for change in delivery.changes} == {trace_id}
    [made] = await house.sandbox.log("create_post")
    assert made["traceparent"].split("-")[1] == trace_id, "the trace reaches the network"


@pytest.mark.parametrize("fault", ["fail_after", "drop_after"])
async def test_a_call_that_had_its_effect_but_no_answer_is_found_and_not_repeated(house: House, fault: str) -> None:
    channel = await house.connect("ada")
    value: object = 502 if fault == "fail_after" else True
    await house.sandbox.set_faults([{"operation": "create_post", "times": 1, fault: value}])
    delivery = await house.until_state(await house.due(channel, "hello"), "published")
    assert await house.sandbox.count() == 1
    assert [STATES[change.state] for change in delivery.changes][-2:] == ["unknown", "published"]
    assert len(await house.sandbox.log("create_post")) == 1


async def test_a_call_without_effect_is_proven_absent_and_sent_again_with_the_same_key(house: House) -> None:
    channel = await house.connect("ada")
    await house.sandbox.set_faults([{"operation": "create_post", "times": 1, "drop_before": True}])
    await house.until_state(await house.due(channel, "hello"), "published")
    calls = await house.sandbox.log("create_post")
    assert len(calls) == 2
    assert await house.sandbox.count() == 1


async def test_a_rate_limited_post_goes_out_when_the_network_said(house: House) -> None:
    channel = await house.connect("ada")
    await house.sandbox.set_faults([{"operation": "create_post", "times": 1, "rate_limit": 1}])
    delivery = await house.until_state(await house.due(channel, "hello"), "published")
    refused = (deliveries_pb.DELIVERY_STATE_PENDING, deliveries_pb.DELIVERY_CAUSE_REFUSED)
    assert refused in [(change.state, change.cause) for change in delivery.changes]
    assert await house.sandbox.count() == 1


async def test_an_expired_token_is_renewed_once_for_many_posts(house: House) -> None:
    channel = await house.connect("ada")
    await house.sandbox.set_faults([{"operation": "create_post", "times": 1, "expire_tokens": True}])
    posts = [await house.due(channel, f"post {number}") for number in range(20)]
    for post in posts:
        await house.until_state(post, "published")
    assert await house.sandbox.count() == 20
    assert len(await house.sandbox.log("refresh")) == 1


async def test_a_thread_hangs_together(house: House) -> None:
    channel = await house.connect("ada")
    await house.sandbox.set_faults(
        [{"operation": "create_post", "times": 1, "drop_after": True, "text_contains": "two"}]
    )
    await house.until_state(await house.due(channel, "one", "two", "three"), "published")
    posts = await house.sandbox.posts()
    assert [post["text"] for post in posts] == ["one", "two", "three"]
    assert [post["reply_to"] for post in posts] == [None, posts[0]["id"], posts[1]["id"]]


async def test_a_private_address_is_refused(house: House) -> None:
    request = channels_pb.ConnectChannelRequest(
        network="sandbox", server_url="https://10.0.0.1", credentials={"access_token": "sandbox-ada"}
    )
    with pytest.raises(RemoteError) as refused:
        await call(house.channels.ConnectChannel, request, identity=house.token)
    assert refused.value.reason == "ADDRESS_REFUSED"


async def test_another_workspace_sees_nothing(house: House) -> None:
    channel = await house.connect("ada")
    stranger = house.signer.sign(Caller(new_id(), "stranger"), audience="publisher", now=datetime.now(UTC))
    with pytest.raises(RemoteError) as refused:
        await call(house.channels.GetChannel, channels_pb.GetChannelRequest(channel_id=channel), identity=stranger)
    assert refused.value.reason == "CHANNEL_NOT_FOUND"
    answer = await call(house.channels.ListChannels, channels_pb.ListChannelsRequest(), identity=stranger)
    assert not answer.channels


async def test_a_picture_is_uploaded_and_a_hostile_one_is_refused(house: House, tmp_path: Path) -> None:
    area = UploadArea(LocalStore(tmp_path / "media"))

    async def upload(data: bytes, *, sha256: bytes = b"", size: int = 0, token: str = "") -> media_pb.Media:
        async with area.receive(body(data), upload_id=new_id(), workspace_id=house.caller.workspace_id) as stored:
            request = media_pb.CompleteUploadRequest(
                upload_id=str(stored.id), size=size or stored.size, sha256=sha256 or stored.sha256
            )
            answer = await call(house.media.CompleteUpload, request, identity=token or house.token)
            return answer.media

    picture = plain("JPEG", exif=telling_exif(6))
    uploaded = await upload(picture)
    assert (uploaded.content_type, uploaded.width, uploaded.frames) == ("image/jpeg", 30, 1)
    for data, reason in (
        (b"<svg/>", "INVALID_MEDIA"),
        (b"", "INVALID_MEDIA"),
        (many_scans((4000, 4000), 200), "MEDIA_TOO_COSTLY"),
        (plain("PNG", (10_000, 5_001)), "MEDIA_TOO_LARGE"),
        (bytes(10_000_001), "MEDIA_TOO_LARGE"),
    ):
        with pytest.raises(RemoteError) as refused:
            await upload(data)
        assert refused.value.reason == reason
    stranger = house.signer.sign(Caller(new_id(), "stranger"), audience="publisher", now=datetime.now(UTC))
    for others in ({"sha256": bytes(32)}, {"size": 7}, {"token": stranger}):
        with pytest.raises(RemoteError) as missing:
            await upload(picture, **others)
        assert missing.value.reason == "UPLOAD_LOST"
    with pytest.raises(RemoteError) as wrong:
        await call(house.media.CompleteUpload, media_pb.CompleteUploadRequest(upload_id="../x"), identity=house.token)
    assert wrong.value.reason == "UPLOAD_LOST"


async def body(data: bytes) -> AsyncIterator[bytes]:
    yield data


async def test_a_server_that_proved_accounts_is_not_taken_for_new(house: House) -> None:
    """The first burst at a server that has just been connected begins with more than a stranger's few calls."""
    channels = [await house.connect(handle) for handle in ("ada", "bob", "cleo", "dora")]
    await house.sandbox.set_faults([{"operation": "create_post", "times": 100, "hang": True}])
    for number in range(4 * FIRST_WINDOW):
        await house.due(channels[number % 4], "hello")

    async def begun() -> bool:
        calls = await house.sandbox.log("create_post")
        return len(calls) == 4 * FIRST_WINDOW

    await until(begun, what="all calls are under way")
    await house.sandbox.kill()  # a call that hangs would hold up the publisher until its drain deadline
