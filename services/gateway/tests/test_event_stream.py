"""The event stream: nothing skipped, nobody else's, and an end when there has to be one."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from regie.ids.v1.prefixes import WORKSPACE
from regie.publisher.events.v1.publisher_events_pb2 import PostMetricsObserved
from regie.scheduler.events.v1.scheduler_events_pb2 import DueVariant, PostCreated, PostDue, PostFinished, PostOutcome
from regie.scheduler.v1.posts_service_pb2 import POST_STATE_PARTIALLY_PUBLISHED, VARIANT_STATE_PUBLISHED
from regie_chassis.boundary.ids import new_id, parse_id
from regie_chassis.data.database import Database
from regie_chassis.data.paging import PAGE_BYTES
from regie_chassis.events.messaging import Envelope, Event, headers_of, stream_spec, subject_of
from regie_chassis.process.clock import SystemClock
from regie_gateway.events import event_json, event_log
from regie_gateway.events.event_log import EventGone, record_events
from regie_gateway.events.event_stream import HEARTBEAT, Subscription, TooManyStreams
from regie_gateway.testing.harness import GatewayHarness, MakeHarness
from regie_local.postgres import EmbeddedPostgres
from regie_local.testing.clock import FakeClock
from regie_local.testing.waiting import settle
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

# The first key of a workspace is said as well, at a moment of its own.
Frame = dict[str, Any]
"""An event of the stream: id, event and data."""
POSTS = {"types": PostCreated.DESCRIPTOR.full_name}
TRACE = "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01"


@pytest.fixture
async def live(make_world: MakeHarness) -> AsyncIterator[GatewayHarness]:
    """A running gateway, with its own first events in the log."""
    world = await make_world(SystemClock())
    gateway = world.gateway
    async with gateway.app:
        await settle([gateway.database], gateway.events.consumers, gateway.broker)
        yield world


@pytest.fixture
async def elsewhere(postgres_server: EmbeddedPostgres) -> AsyncIterator[Database]:
    """A database of the same server that another role owns, as each service has one."""
    name = f"t_{new_id().hex}"
    url = await postgres_server.create_database(name, owner="regie_elsewhere", password="elsewhere")
    database = Database(url.replace("***", "elsewhere"))
    yield database
    await database.close()
    await postgres_server.drop_database(name)


async def workspace_of(world: GatewayHarness, token: str | None = None) -> UUID:
    async with world.client(token) as client:
        return parse_id(WORKSPACE, (await client.get("/v1/workspace")).json()["workspace_id"])


def created(workspace_id: UUID, title: str) -> Event[PostCreated]:
    return Event(new_id(), workspace_id, SystemClock().now(), PostCreated(post_id="post_1", title=title), TRACE)


async def record(world: GatewayHarness, *events: Event[Any]) -> None:
    async with world.database.transaction() as session:
        await record_events(session, events, wake=lambda: None)


@asynccontextmanager
async def following(
    world: GatewayHarness, token: str | None = None, **request: Any
) -> AsyncIterator[AsyncIterator[Frame]]:
    async with (
        world.network_client(token) as client,
        client.stream("GET", "/v1/events", **request) as response,
    ):
        assert response.status_code == 200, await response.aread()
        assert response.headers["content-type"].startswith("text/event-stream")
        lines = response.aiter_lines()
        assert await anext(lines) == "retry: 1000"
        yield frames(lines)


async def frames(lines: AsyncIterator[str]) -> AsyncIterator[Frame]:
    frame: Frame = {}
    async for line in lines:
        name, _, value = line.partition(": ")
        if line:
            frame[name] = json.loads(value) if name == "data" else value
        elif frame:
            # What is said of the workspace and its first key comes when it comes.
            if not frame.get("event", "").startswith("regie.gateway."):
                yield frame
            frame = {}


async def take(stream: AsyncIterator[Frame], count: int) -> list[Frame]:
    async with asyncio.timeout(20):
        return [await anext(stream) for _ in range(count)]


def titles(found: list[Frame]) -> list[str]:
    return [frame["data"]["data"]["title"] for frame in found]


async def test_what_the_services_say_comes_out_as_cloud_events(live: GatewayHarness) -> None:
    workspace_id = await workspace_of(live)
    broker = live.gateway.broker
    await broker.ensure_stream(stream_spec("scheduler"))
    event = created(workspace_id, "Opening")
    name = event.message.DESCRIPTOR.full_name
    headers = headers_of(
        name, event_id=event.id, workspace_id=workspace_id, time=event.time, traceparent=TRACE, sequence=421
    )
    envelope = Envelope(subject_of(name, workspace_id), str(event.id), event.message.SerializeToString(), headers)
    async with following(live) as stream:
        await broker.publish([envelope])
        while True:
            (frame,) = await take(stream, 1)
            if frame["event"] == name:  # the first key of the workspace was said as well
                break
    assert frame["id"] == str(event.id)
    cloud = frame["data"]
    assert cloud["traceparent"].startswith("00-0123456789abcdef0123456789abcdef-")
    assert {key: cloud[key] for key in cloud if key not in {"time", "traceparent"}} == {
        "specversion": "1.0",
        "id": str(event.id),
        "source": "/regie/scheduler",
        "type": name,
        "subject": "post_1",
        "datacontenttype": "application/json",
        "sequence": "00000000000000000421",
        "data": {"post_id": "post_1", "title": "Opening", "revision": 0},
    }


async def test_a_reader_that_comes_back_misses_nothing(live: GatewayHarness) -> None:
    workspace_id = await workspace_of(live)
    events = [created(workspace_id, str(number)) for number in range(450)]
    await record(live, *events)
    async with following(live, headers={"Last-Event-ID": str(events[9].id)}, params=POSTS) as stream:
        assert titles(await take(stream, 440)) == [str(number) for number in range(10, 450)]
        await record(live, created(workspace_id, "live"))
        assert titles(await take(stream, 1)) == ["live"]
    async with following(live, params={"last_event_id": str(events[448].id), **POSTS}) as stream:
        assert titles(await take(stream, 2)) == ["449", "live"]


async def test_what_commits_late_is_not_skipped(live: GatewayHarness) -> None:
    workspace_id = await workspace_of(live)
    first, early, late = (created(workspace_id, title) for title in ("first", "early", "late"))
    await record(live, first)
    async with following(live, headers={"Last-Event-ID": str(first.id)}, params=POSTS) as stream:
        async with live.database.transaction() as slow:
            await record_events(slow, [early], wake=lambda: None)
            await record(live, late)
            horizon = await _horizon_stands(live, workspace_id, first)
            assert horizon == []
        assert titles(await take(stream, 2)) == ["early", "late"]
    async with following(live, headers={"Last-Event-ID": str(early.id)}, params=POSTS) as stream:
        assert titles(await take(stream, 1)) == ["late"]


async def test_a_transaction_of_another_database_holds_back_no_event(live: GatewayHarness, elsewhere: Database) -> None:
    workspace_id = await workspace_of(live)
    first = created(workspace_id, "first")
    await record(live, first)
    async with elsewhere.transaction() as foreign:
        await foreign.execute(text("CREATE TABLE work ()"))
        async with following(live, headers={"Last-Event-ID": str(first.id)}, params=POSTS) as stream:
            await record(live, created(workspace_id, "now"))
            assert titles(await take(stream, 1)) == ["now"]
        async with live.database.transaction() as slow:
            await record_events(slow, [created(workspace_id, "slow")], wake=lambda: None)
            await record(live, created(workspace_id, "fast"))
            assert len(await _horizon_stands(live, workspace_id, first)) == 1, "its own transactions still hold it"
        async with following(live, headers={"Last-Event-ID": str(first.id)}, params=POSTS) as stream:
            assert titles(await take(stream, 3)) == ["now", "slow", "fast"]


async def _horizon_stands(world: GatewayHarness, workspace_id: UUID, after: Event[Any]) -> list[str]:
    async with world.database.reading() as session:
        place = await event_log.position_of(session, workspace_id=workspace_id, event_id=after.id)
        page = await event_log.read_page(
            session,
            workspace_id=workspace_id,
            after=place,
            horizon=await event_log.find_horizon(session),
            types=(),
            limit=10,
        )
    assert page.position < (2**62, 0)
    return [event.data for event in page.events]


async def test_a_page_of_large_events_is_cut_by_bytes_and_goes_on_where_it_ended(live: GatewayHarness) -> None:
    workspace_id = await workspace_of(live)
    seen, sizes = list[str](), list[int]()
    async with live.gateway.database.reading() as session:
        place = await event_log.position_now(session)
    await record(live, *(created(workspace_id, f"{number}-" + "x" * 800_000) for number in range(12)))
    async with live.gateway.database.reading() as session:
        while len(seen) < 12:
            horizon = await event_log.find_horizon(session)
            page = await event_log.read_page(
                session, workspace_id=workspace_id, after=place, horizon=horizon, types=(), limit=200
            )
            assert page.events
            place = page.position
            seen += [json.loads(event.data)["title"].partition("-")[0] for event in page.events]
            sizes.append(sum(len(event.data) for event in page.events[:-1]))
    assert seen == [str(number) for number in range(12)]
    assert max(sizes) <= PAGE_BYTES


async def test_writers_at_once_leave_no_gap(live: GatewayHarness) -> None:
    workspace_id = await workspace_of(live)
    first = created(workspace_id, "first")
    await record(live, first)
    expected = {f"{writer}-{number}" for writer in range(6) for number in range(20)}

    async def write(writer: int) -> None:
        for number in range(20):
            async with live.database.transaction() as session:
                await record_events(
                    session, [created(workspace_id, f"{writer}-{number}")], wake=live.gateway.broadcaster.wake
                )
                await _other_work(session)

    async with following(live, headers={"Last-Event-ID": str(first.id)}, params=POSTS) as stream:
        _, found = await asyncio.gather(
            asyncio.gather(*(write(writer) for writer in range(6))), take(stream, len(expected))
        )
    assert sorted(titles(found)) == sorted(expected)
    async with following(live, headers={"Last-Event-ID": str(first.id)}, params=POSTS) as stream:
        assert [frame["id"] for frame in await take(stream, len(expected))] == [frame["id"] for frame in found]


async def _other_work(session: AsyncSession) -> None:
    # Lets the others take numbers before this transaction commits.
    await event_log.position_now(session)


async def test_only_the_callers_workspace_is_told(live: GatewayHarness) -> None:
    token = await live.workspace("second")
    mine, theirs = await workspace_of(live), await workspace_of(live, token)
    first = created(mine, "mine 1")
    await record(live, first, created(theirs, "theirs"), created(mine, "mine 2"))
    async with following(live, headers={"Last-Event-ID": str(first.id)}, params=POSTS) as stream:
        assert titles(await take(stream, 1)) == ["mine 2"]
    async with live.network_client(token) as client:
        answer = await client.get("/v1/events", headers={"Last-Event-ID": str(first.id)})
    assert (answer.status_code, answer.json()["reason"]) == (410, "EVENT_GONE")


async def test_a_filter_lets_only_its_types_through(live: GatewayHarness) -> None:
    workspace_id = await workspace_of(live)
    first = created(workspace_id, "first")
    numbers = PostMetricsObserved(post_id="post_1", values={"likes": 3})
    await record(live, first, Event(new_id(), workspace_id, first.time, numbers), created(workspace_id, "third"))
    name = numbers.DESCRIPTOR.full_name
    asked: dict[str, Any] = {"params": {"types": name}, "headers": {"Last-Event-ID": str(first.id)}}
    async with following(live, **asked) as stream:
        (frame,) = await take(stream, 1)
        assert (frame["event"], frame["data"]["data"]["values"]) == (name, {"likes": 3})
        again = Event(new_id(), workspace_id, first.time, numbers)
        await record(live, created(workspace_id, "fourth"), again)
        assert [frame["id"] for frame in await take(stream, 1)] == [str(again.id)]


async def test_a_key_is_told_of_what_it_may_read_live_and_replayed(live: GatewayHarness) -> None:
    workspace_id = await workspace_of(live)
    token = await live.key("events:read", "metrics:read")
    first = created(workspace_id, "first")

    def numbers() -> Event[Any]:
        message = PostMetricsObserved(post_id="post_1", values={"likes": 3})
        return Event(new_id(), workspace_id, first.time, message)

    replayed, fresh = numbers(), numbers()
    await record(live, first, created(workspace_id, "second"), replayed)
    async with following(live, token, headers={"Last-Event-ID": str(first.id)}) as stream:
        assert [frame["id"] for frame in await take(stream, 1)] == [str(replayed.id)]
        await record(live, created(workspace_id, "third"), fresh)
        assert [frame["id"] for frame in await take(stream, 1)] == [str(fresh.id)]


async def test_the_stream_ends_with_its_key(live: GatewayHarness) -> None:
    token = await live.key("events:read")
    async with following(live, token) as stream:
        async with live.client() as client:
            keys = (await client.get("/v1/api-keys")).json()["api_keys"]
            narrow = next(key for key in keys if key["name"] == "narrow")
            assert (await client.delete(f"/v1/api-keys/{narrow['api_key_id']}")).status_code == 204
        async with asyncio.timeout(20):
            assert [frame async for frame in stream if frame["event"].endswith("PostCreated")] == []


async def test_the_stream_ends_when_the_service_drains(make_world: MakeHarness) -> None:
    world = await make_world(SystemClock())
    async with world.gateway.app:
        stream = following(world)
        events = await stream.__aenter__()
    async with asyncio.timeout(20):
        assert [frame async for frame in events if frame["event"].endswith("PostCreated")] == []
    await stream.__aexit__(None, None, None)


async def test_a_key_holds_so_many_streams_and_no_more(make_world: MakeHarness) -> None:
    world = await make_world(SystemClock(), streams_per_key=2)
    async with world.gateway.app, following(world), following(world), world.network_client() as client:
        answer = await client.get("/v1/events")
        assert (answer.status_code, answer.json()["reason"]) == (429, "TOO_MANY_STREAMS")
        assert answer.headers["retry-after"] == "10"


async def test_streams_that_are_opened_at_once_are_counted_before_anything_is_waited_for(
    make_world: MakeHarness,
) -> None:
    world = await make_world(SystemClock(), streams_per_key=3, streams_per_workspace=5)
    broadcaster, authenticator = world.gateway.broadcaster, world.gateway.authenticator
    keys = [await authenticator.authenticate(f"Bearer {await world.key('events:read')}") for _ in range(3)]
    asked = [broadcaster.subscribe(key, types=(), last_event_id=None) for key in keys for _ in range(20)]
    opened = await asyncio.gather(*asked, return_exceptions=True)
    subscriptions = [one for one in opened if isinstance(one, Subscription)]
    assert Counter(subscription.key.id for subscription in subscriptions) == {keys[0].id: 3, keys[1].id: 2}
    assert all(isinstance(one, TooManyStreams) for one in opened if one not in subscriptions)
    for subscription in subscriptions:
        broadcaster.release(subscription)
        broadcaster.release(subscription)
    with pytest.raises(EventGone):
        await broadcaster.subscribe(keys[2], types=(), last_event_id=new_id())
    again = [await broadcaster.subscribe(keys[2], types=(), last_event_id=None) for _ in range(3)]
    assert len(again) == 3


async def test_a_quiet_stream_gives_a_sign_of_life(world: GatewayHarness, clock: FakeClock) -> None:
    broadcaster = world.gateway.broadcaster
    async with world.database.reading():
        key = await world.gateway.authenticator.authenticate(f"Bearer {world.token}")
    subscription = await broadcaster.subscribe(key, types=(), last_event_id=None)
    chunks = broadcaster.stream(subscription)
    assert await anext(chunks) == b"retry: 1000\n\n"
    sign = asyncio.create_task(anext(chunks))
    while not sign.done():
        await clock.advance(HEARTBEAT / 15)
        await asyncio.sleep(0)
    assert sign.result() == b": still here\n\n"
    # Events that this reader is not told of count for nothing: the next sign comes all the same, and in time.
    sign = asyncio.create_task(anext(chunks))
    await clock.advance(HEARTBEAT)
    subscription.news.set()
    assert await asyncio.wait_for(sign, timeout=20) == b": still here\n\n"
    await chunks.aclose()


def test_an_event_becomes_json_with_all_its_fields() -> None:
    due = PostDue(
        post_id="post_1", revision=2**60, publish_time=Timestamp(seconds=1), variants=[DueVariant(language="fr")]
    )
    assert event_json.data_of(due) == {
        "post_id": "post_1",
        "revision": 2**60,
        "publish_time": "1970-01-01T00:00:01Z",
        "miss_time": None,
        "variants": [{"channel_id": "", "segments": [], "visibility": "", "language": "fr"}],
    }
    assert event_json.data_of(PostCreated(title="a\x00b"))["title"] == "a\ufffdb"


def test_an_events_states_are_words() -> None:
    outcomes = [PostOutcome(state=VARIANT_STATE_PUBLISHED), PostOutcome()]
    data = event_json.data_of(PostFinished(state=POST_STATE_PARTIALLY_PUBLISHED, outcomes=outcomes))
    assert (data["state"], [outcome["state"] for outcome in data["outcomes"]]) == (
        "partially_published",
        ["published", ""],
    )
