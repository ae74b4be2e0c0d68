"""Every resource, from JSON to message and back."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from regie.audience.v1 import segments_service_pb2 as audience_pb
from regie.audience.v1 import segments_service_pb2 as segments_pb
from regie.ids.v1.prefixes import CHANNEL, DELIVERY, MEDIA
from regie.metrics.v1 import post_metrics_service_pb2 as metrics_pb
from regie.publisher.events.v1.publisher_events_pb2 import FailureKind
from regie.publisher.v1 import channels_service_pb2 as channels_pb
from regie.publisher.v1 import deliveries_service_pb2 as deliveries_pb
from regie.publisher.v1 import networks_service_pb2 as networks_pb
from regie.scheduler.v1 import posts_service_pb2 as scheduler_pb
from regie_chassis.boundary.ids import new_id, show_id
from regie_gateway.access.bootstrap import bootstrap
from regie_gateway.mapping.compiled import compile_view
from regie_gateway.resources.publishing.channels import ChannelView
from regie_gateway.testing.harness import GatewayHarness, MakeHarness
from regie_local.testing.clock import FakeClock
from sqlalchemy import text

CHANNEL_ID = show_id(CHANNEL, new_id())
POST = {"title": "Opening", "variants": [{"channel_id": CHANNEL_ID, "text": "Doors open at eight."}]}
NOT_OUT = {"state": "planned", "remote_id": "", "remote_url": ""}


async def test_a_post_is_created_read_edited_scheduled_and_cancelled(world: GatewayHarness) -> None:
    async with world.client() as client:
        created = await client.post("/v1/posts", json=POST)
        assert created.status_code == 201, created.text
        post = created.json()
        assert post["state"] == "draft"
        assert post["publish_at"] is None
        assert post["variants"][0]["segments"] == [{"text": "Doors open at eight.", "attachments": [], **NOT_OUT}]
        path = created.headers["location"]
        assert (await client.get(path)).json() == post
        edited = await client.patch(path, json={"title": "Closing", "revision": 1})
        assert (edited.json()["title"], edited.json()["revision"]) == ("Closing", 2)
        at = {"local_time": "2030-06-01T09:30:00", "time_zone": "Europe/Paris"}
        scheduled = await client.post(f"{path}/schedule", json={"publish_at": at})
        assert scheduled.json()["publish_at"] == {**at, "occurrence": "first", "time": "2026-03-02T09:00:00Z"}
        assert (await client.get("/v1/posts?state=scheduled")).json()["posts"] == [scheduled.json()]
        assert (await client.get("/v1/posts?state=missed")).json() == {"posts": [], "next_page_token": ""}
        assert (await client.post(f"{path}/cancel")).json()["state"] == "cancelled"
        again = await client.post(f"{path}/cancel")
        assert (again.status_code, again.json()["reason"]) == (409, "POST_STATE_CONFLICT")


async def test_a_thread_with_pictures_arrives_whole(world: GatewayHarness) -> None:
    media_id = show_id(MEDIA, new_id())
    segments: list[dict[str, Any]] = [
        {"text": "one", "attachments": [{"media_id": media_id, "alt_text": "a door"}]},
        {"text": "two", "attachments": []},
    ]
    variant = {"channel_id": CHANNEL_ID, "segments": segments, "visibility": "unlisted", "language": "fr"}
    async with world.client() as client:
        created = await client.post("/v1/posts", json={"title": "t", "variants": [variant]})
    shown = created.json()["variants"][0]
    assert shown["segments"] == [{**segment, **NOT_OUT} for segment in segments]
    assert (shown["visibility"], shown["language"], shown["state"]) == ("unlisted", "fr", "planned")


async def test_an_error_behind_keeps_its_reason_field_and_status(world: GatewayHarness) -> None:
    at = {"local_time": "2030-06-01T09:30:00", "time_zone": "Mars"}
    async with world.client() as client:
        answer = await client.post("/v1/posts", json={**POST, "publish_at": at})
    problem = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.status_code, problem["reason"], problem["field"]) == (400, "INVALID_ZONE", "/publish_at/time_zone")


async def test_a_network_is_shown_with_its_credentials_and_limits(world: GatewayHarness) -> None:
    source = {"source_url": "https://network.example/limits", "source_date": "2026-11-23"}
    world.backends.networks.networks = [
        networks_pb.Network(
            name="example",
            title="Example",
            documentation_url="https://network.example",
            guide="docs/networks.md#example",
            server_address="optional",
            main_server="https://network.example",
            credentials=[networks_pb.CredentialField(name="token", label="Token", help="Ask.", secret=True)],
            formats=["text", "image"],
            visibilities=["public"],
            text_limits=[networks_pb.ContentLimit(maximum=300, unit="graphemes", **source)],
            max_attachments=4,
            media_rules=[
                networks_pb.MediaRule(
                    kind="image",
                    content_types=["image/*"],
                    max_bytes=9,
                    source_url=source["source_url"],
                    source_date=source["source_date"],
                )
            ],
            metrics=["likes"],
            account_metrics=["followers"],
            verbs=["publish"],
            once="own_key",
        )
    ]
    async with world.client() as client:
        (shown,) = (await client.get("/v1/networks")).json()["networks"]
    assert shown == {
        "name": "example",
        "title": "Example",
        "documentation_url": "https://network.example",
        "guide": "docs/networks.md#example",
        "server_address": "optional",
        "main_server": "https://network.example",
        "credentials": [{"name": "token", "label": "Token", "help": "Ask.", "secret": True, "required": False}],
        "formats": ["text", "image"],
        "visibilities": ["public"],
        "text_limits": [{"maximum": 300, "unit": "graphemes", **source}],
        "max_attachments": 4,
        "media_rules": [
            {
                "kind": "image",
                "content_types": ["image/*"],
                "max_bytes": 9,
                "max_pixels": None,
                "fitted": False,
                **source,
            }
        ],
        "alt_text_limit": None,
        "limits_per_server": False,
        "metrics": ["likes"],
        "account_metrics": ["followers"],
        "verbs": ["publish"],
        "once": "own_key",
    }


async def test_a_network_that_is_not_offered_is_named_as_the_wrong_field(world: GatewayHarness) -> None:
    async with world.client() as client:
        answer = await client.post("/v1/channels", json={"network": "nowhere", "credentials": {"token": "x"}})
    problem = answer.json()
    assert (answer.status_code, problem["reason"], problem["field"]) == (400, "UNKNOWN_NETWORK", "/network")


async def test_a_channel_is_connected_listed_and_disconnected(world: GatewayHarness) -> None:
    async with world.client() as client:
        body = {"network": "sandbox", "credentials": {"access_token": "x"}}
        connected = await client.post("/v1/channels", json=body)
        assert connected.status_code == 201
        path = connected.headers["location"]
        assert (await client.get(path)).json() == connected.json()
        assert (await client.get("/v1/channels")).json()["channels"] == [connected.json()]
        assert (await client.delete(path)).json()["state"] == "disconnected"
    sent = world.backends.publisher.memory.received[0]
    assert isinstance(sent, channels_pb.ConnectChannelRequest)
    assert dict(sent.credentials) == {"access_token": "x"}


async def test_connecting_may_take_as_long_as_several_calls_to_a_network(world: GatewayHarness) -> None:
    async with world.client() as client:
        body = {"network": "sandbox", "credentials": {"access_token": "x"}}
        assert (await client.post("/v1/channels", json=body)).status_code == 201
    # 45 s, read on the wall clock of a deadline that was set on another one; other calls have a few seconds.
    seconds = world.backends.publisher.seconds_to_connect
    assert seconds is not None
    assert 40 < seconds < 50


async def test_a_picture_is_uploaded_as_its_bytes(world: GatewayHarness) -> None:
    async with world.client() as client:
        answer = await client.post("/v1/media", content=b"\x89PNG", headers={"Content-Type": "image/png"})
    assert (answer.status_code, answer.json()["size"]) == (201, 4)


async def test_profiles_keep_their_attributes(world: GatewayHarness) -> None:
    attributes = {"city": "Lyon", "age": 34, "score": 0.5, "vip": True, "tags": ["a", "b"], "gone": None}
    async with world.client() as client:
        answer = await client.post(
            "/v1/profiles", json={"profiles": [{"external_id": "crm-17", "attributes": attributes}]}
        )
        assert answer.status_code == 200, answer.text
        profile = answer.json()["profiles"][0]
        assert profile["attributes"] == attributes
        assert (await client.get(f"/v1/profiles/{profile['profile_id']}")).json() == profile
        assert (await client.get("/v1/profiles")).json()["profiles"] == [profile]


async def test_a_segment_keeps_its_rule(world: GatewayHarness) -> None:
    rule = {
        "all": [
            {"attribute": "city", "operator": "eq", "value": "Lyon"},
            {"not": {"any": [{"attribute": "age", "operator": "lt", "value": 18}]}},
            {"attribute": "vip", "operator": "present"},
            {"attribute": "city", "operator": "in", "value": ["Lyon", "Nice"]},
            {"attribute": "tags", "operator": "eq", "value": []},
        ]
    }
    async with world.client() as client:
        created = await client.post("/v1/segments", json={"name": "Lyon", "rule": rule})
        assert created.status_code == 201, created.text
        segment = created.json()
        assert (segment["rule"], segment["state"]) == (rule, "active")
        path = created.headers["location"]
        assert (await client.get(path)).json() == segment
        assert (await client.get("/v1/segments")).json()["segments"] == [segment]
        assert (await client.get(f"{path}/members")).json() == {"profiles": [], "next_page_token": ""}
        preview = await client.post("/v1/segments/preview", json={"rule": rule, "sample_size": 2})
        warnings = [{"field": "/rule/all/1/not", "message": "odd"}]
        assert preview.json() == {"count": 0, "sample": [], "warnings": warnings}
    asked = world.backends.audience.memory.received[-1]
    assert isinstance(asked, audience_pb.PreviewSegmentRequest)
    assert asked.sample_size == 2


async def test_a_segment_is_deleted_by_its_id(world: GatewayHarness) -> None:
    rule = {"attribute": "city", "operator": "eq", "value": "Lyon"}
    async with world.client() as client:
        segment = (await client.post("/v1/segments", json={"name": "Lyon", "rule": rule})).json()
        answer = await client.delete(f"/v1/segments/{segment['segment_id']}")
    assert (answer.status_code, answer.json()) == (200, {"segment_id": segment["segment_id"]})
    received = world.backends.audience.memory.received[-1]
    assert isinstance(received, segments_pb.DeleteSegmentRequest)
    assert received.segment_id == segment["segment_id"]


async def test_the_numbers_of_a_post_are_told(world: GatewayHarness) -> None:
    async with world.client() as client:
        path = (await client.post("/v1/posts", json=POST)).headers["location"]
        shown = (await client.get(f"{path}/metrics")).json()
        assert shown["totals"] == {"likes": 3}
        assert shown["channels"][0]["observe_times"] == {"likes": shown["channels"][0]["observe_time"]}
        query = {"metric": "likes", "granularity": "day", "start": "2026-03-01T00:00:00+01:00"}
        series = await client.get(f"{path}/metrics/series", params=query)
    assert series.json()["points"] == [{"start_time": "2026-03-02T09:00:00Z", "total": 3, "gained": 3}]
    asked = world.backends.metrics.memory.received[-1]
    assert isinstance(asked, metrics_pb.GetPostSeriesRequest)
    assert asked.start_time.ToJsonString() == "2026-02-28T23:00:00Z"
    assert not asked.HasField("end_time")


async def test_the_timeline_puts_both_accounts_in_the_order_of_time(world: GatewayHarness) -> None:
    async with world.client() as client:
        path = (await client.post("/v1/posts", json=POST)).headers["location"]
        post_id = path.rsplit("/", 1)[1]
        _put_timeline(world, post_id)
        timeline = (await client.get(f"{path}/timeline")).json()
        assert [(entry["subject"], entry["state"]) for entry in timeline["entries"]] == [
            ("post", "scheduled"),
            ("delivery", "claimed"),
            ("delivery", "published"),
            ("post", "published"),
        ]
        assert timeline["complete"]
        assert timeline["entries"][2]["network_message"] == "ok"
        world.backends.publisher.memory.down = True
        partial = (await client.get(f"{path}/timeline")).json()
    assert (partial["complete"], partial["missing"]) == (False, ["deliveries"])
    assert [(entry["subject"], entry["state"]) for entry in partial["entries"]] == [
        ("post", "scheduled"),
        ("delivery", "published"),
        ("post", "published"),
    ]


def _put_timeline(world: GatewayHarness, post_id: str) -> None:
    def at(second: int) -> Timestamp:
        return Timestamp(seconds=1_770_000_000 + second)

    world.backends.scheduler.timelines[post_id] = [
        scheduler_pb.TimelineEntry(
            time=at(1), post_state=scheduler_pb.POST_STATE_SCHEDULED, cause=scheduler_pb.CHANGE_CAUSE_API
        ),
        scheduler_pb.TimelineEntry(
            time=at(5),
            variant_state=scheduler_pb.VARIANT_STATE_PUBLISHED,
            cause=scheduler_pb.CHANGE_CAUSE_PUBLISHER,
            channel_id=CHANNEL_ID,
        ),
        scheduler_pb.TimelineEntry(
            time=at(5), post_state=scheduler_pb.POST_STATE_PUBLISHED, cause=scheduler_pb.CHANGE_CAUSE_PUBLISHER
        ),
    ]
    changes = [
        deliveries_pb.DeliveryChange(
            time=at(2), state=deliveries_pb.DELIVERY_STATE_CLAIMED, cause=deliveries_pb.DELIVERY_CAUSE_WORKER, attempt=1
        ),
        deliveries_pb.DeliveryChange(
            time=at(4),
            state=deliveries_pb.DELIVERY_STATE_PUBLISHED,
            cause=deliveries_pb.DELIVERY_CAUSE_WORKER,
            attempt=1,
            network_message="ok",
        ),
    ]
    delivery = deliveries_pb.Delivery(
        delivery_id=show_id(DELIVERY, new_id()), post_id=post_id, channel_id=CHANNEL_ID, changes=changes
    )
    world.backends.publisher.deliveries[post_id] = [delivery]


async def test_the_timeline_tells_until_when_a_lost_call_may_still_land(world: GatewayHarness) -> None:
    async with world.client() as client:
        path = (await client.post("/v1/posts", json=POST)).headers["location"]
        post_id = path.rsplit("/", 1)[1]
        _put_timeline(world, post_id)
        [delivery] = world.backends.publisher.deliveries[post_id]
        delivery.changes[-1].state = delivery.state = deliveries_pb.DELIVERY_STATE_UNKNOWN
        delivery.quiet_end_time.seconds, delivery.next_look_time.seconds = 1_770_000_120, 1_770_000_014
        entries = (await client.get(f"{path}/timeline")).json()["entries"]
    told = [(entry["quiet_end_time"], entry["next_look_time"]) for entry in entries if entry["subject"] == "delivery"]
    assert told == [(None, None), ("2026-02-02T02:42:00Z", "2026-02-02T02:40:14Z")]


async def test_the_timeline_says_which_parts_of_a_thread_came_out_and_where(world: GatewayHarness) -> None:
    async with world.client() as client:
        path = (await client.post("/v1/posts", json=POST)).headers["location"]
        post_id = path.rpartition("/")[2]
        addresses = ["https://net.example/1", "https://net.example/2", ""]
        published, failed = deliveries_pb.DELIVERY_SEGMENT_STATE_PUBLISHED, deliveries_pb.DELIVERY_SEGMENT_STATE_FAILED
        states = [published, published, failed]
        publishing = deliveries_pb.DELIVERY_STATE_PUBLISHING
        changes = [
            *((publishing, out, "") for out in range(3)),
            (deliveries_pb.DELIVERY_STATE_FAILED, 2, "not allowed"),
        ]
        world.backends.publisher.deliveries[post_id] = [
            deliveries_pb.Delivery(
                delivery_id=show_id(DELIVERY, new_id()),
                channel_id=CHANNEL_ID,
                state=deliveries_pb.DELIVERY_STATE_FAILED,
                failure_kind=FailureKind.FAILURE_KIND_CONTENT_REJECTED,
                segments=[
                    deliveries_pb.DeliverySegment(state=state, remote_url=url)
                    for state, url in zip(states, addresses, strict=True)
                ],
                changes=[
                    deliveries_pb.DeliveryChange(
                        time=Timestamp(seconds=at), state=state, segments_out=out, detail=detail, trace_id="a" * 32
                    )
                    for at, (state, out, detail) in enumerate(changes)
                ],
            )
        ]
        timeline = (await client.get(f"{path}/timeline")).json()
    assert [(entry["segments_out"], entry["detail"]) for entry in timeline["entries"]] == [
        (0, ""),
        (1, "1 of 3 parts are out: https://net.example/1"),
        (2, "2 of 3 parts are out: https://net.example/2"),
        (2, "2 of 3 parts are out: not allowed"),
    ]


async def test_in_the_timeline_a_post_ends_after_the_deliveries_of_the_same_moment(world: GatewayHarness) -> None:
    def at(second: int) -> Timestamp:
        return Timestamp(seconds=1_770_000_000 + second)

    async with world.client() as client:
        path = (await client.post("/v1/posts", json=POST)).headers["location"]
        post_id = path.rsplit("/", 1)[1]
        world.backends.scheduler.timelines[post_id] = [
            scheduler_pb.TimelineEntry(
                time=at(1), post_state=scheduler_pb.POST_STATE_DISPATCHED, cause=scheduler_pb.CHANGE_CAUSE_DUE
            ),
            scheduler_pb.TimelineEntry(
                time=at(2), post_state=scheduler_pb.POST_STATE_PUBLISHED, cause=scheduler_pb.CHANGE_CAUSE_PUBLISHER
            ),
        ]
        changes = [
            deliveries_pb.DeliveryChange(
                time=at(1), state=deliveries_pb.DELIVERY_STATE_PENDING, cause=deliveries_pb.DELIVERY_CAUSE_POST_DUE
            ),
            deliveries_pb.DeliveryChange(
                time=at(2),
                state=deliveries_pb.DELIVERY_STATE_PUBLISHING,
                cause=deliveries_pb.DELIVERY_CAUSE_WORKER,
                attempt=1,
            ),
            deliveries_pb.DeliveryChange(
                time=at(2),
                state=deliveries_pb.DELIVERY_STATE_PUBLISHED,
                cause=deliveries_pb.DELIVERY_CAUSE_WORKER,
                attempt=1,
            ),
        ]
        world.backends.publisher.deliveries[post_id] = [
            deliveries_pb.Delivery(
                delivery_id=show_id(DELIVERY, new_id()), post_id=post_id, channel_id=CHANNEL_ID, changes=changes
            )
        ]
        timeline = (await client.get(f"{path}/timeline")).json()
    assert [(entry["subject"], entry["state"]) for entry in timeline["entries"]] == [
        ("post", "dispatched"),
        ("delivery", "pending"),
        ("delivery", "publishing"),
        ("delivery", "published"),
        ("post", "published"),
    ]


async def test_a_person_resolves_an_unknown_delivery(world: GatewayHarness) -> None:
    delivery_id = show_id(DELIVERY, new_id())
    world.backends.publisher.deliveries["x"] = [
        deliveries_pb.Delivery(delivery_id=delivery_id, state=deliveries_pb.DELIVERY_STATE_UNKNOWN)
    ]
    async with world.client() as client:
        answer = await client.post(f"/v1/deliveries/{delivery_id}/resolve", json={"published": True})
    assert answer.json()["state"] == "published"


async def test_the_workspace_is_shown_and_changed(world: GatewayHarness, clock: FakeClock) -> None:
    async with world.client() as client:
        assert (await client.get("/v1/workspace")).json()["missed_after_seconds"] == 600
        changed = await client.patch("/v1/workspace", json={"missed_after_seconds": 900})
        assert (changed.json()["name"], changed.json()["missed_after_seconds"]) == ("first", 900)
        time = changed.json()["update_time"]
        assert time.endswith("Z")
        await clock.advance(timedelta(seconds=1))
        for nothing in ({}, {"missed_after_seconds": 900}, {"name": "first", "missed_after_seconds": 900.0}):
            assert (await client.patch("/v1/workspace", json=nothing)).json() == changed.json()
    async with world.database.reading() as session:
        told = await session.execute(text("SELECT count(*) FROM outbox WHERE type LIKE '%WorkspaceUpdated'"))
    assert told.scalar_one() == 2


async def test_a_name_tells_nobody_which_other_workspaces_exist(world: GatewayHarness) -> None:
    second = await world.workspace("second")
    async with world.client() as client:
        assert (await client.patch("/v1/workspace", json={"name": "second"})).status_code == 200
    # The operator's command still finds the workspace that it made under the name.
    again = await bootstrap(world.database, world.clock, name="second", new_key=True)
    async with world.client(second) as stranger, world.client(again.api_key) as operator:
        own = (await stranger.get("/v1/workspace")).json()
        assert (await operator.get("/v1/workspace")).json() == own


async def test_another_workspace_sees_nothing_of_it(world: GatewayHarness) -> None:
    async with world.client() as client:
        path = (await client.post("/v1/posts", json=POST)).headers["location"]
    async with world.client(await world.workspace("second")) as stranger:
        answer = await stranger.get(path)
        assert (answer.status_code, answer.json()["reason"]) == (404, "POST_NOT_FOUND")
        assert (await stranger.get("/v1/posts")).json()["posts"] == []


async def test_a_service_that_does_not_answer_is_a_problem_to_try_again(world: GatewayHarness) -> None:
    world.backends.scheduler.memory.down = True
    async with world.client() as client:
        answer = await client.get("/v1/posts")
    assert (answer.status_code, answer.json()["reason"]) == (503, "SERVICE_UNAVAILABLE")
    assert answer.headers["retry-after"] == "1"


async def test_the_probes_answer_without_a_key(world: GatewayHarness) -> None:
    async with world.client("") as client:
        assert (await client.get("/healthz")).status_code == 200
        assert (await client.get("/readyz")).status_code == 200


async def test_without_its_database_it_says_so_and_stays_alive(make_world: MakeHarness, clock: FakeClock) -> None:
    world = await make_world(clock, database_url="postgresql+asyncpg://nobody:x@127.0.0.1:9/nothing")
    async with world.client() as client:
        answer = await client.get("/v1/workspace")
        assert (answer.status_code, answer.json()["reason"]) == (503, "SERVICE_UNAVAILABLE")
        ready = await client.get("/readyz")
        assert (ready.status_code, ready.json()["reason"]) == (503, "NOT_READY")
        assert (await client.get("/healthz")).status_code == 200


def test_a_channel_shows_that_it_is_held_back_and_shared() -> None:
    to_view = compile_view(channels_pb.Channel, ChannelView)
    held_back = to_view(channels_pb.Channel(blocked_until_time=Timestamp(seconds=1_770_000_000), shared=True))
    assert (held_back["blocked_until_time"], held_back["shared"]) == ("2026-02-02T02:40:00Z", True)
    free = to_view(channels_pb.Channel())
    assert (free["blocked_until_time"], free["shared"]) == (None, False)
