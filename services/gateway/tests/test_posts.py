"""Posts and their numbers, from JSON to message and back."""

from __future__ import annotations

from typing import Any

from regie.ids.v1.prefixes import CHANNEL, MEDIA
from regie.metrics.v1 import post_metrics_service_pb2 as metrics_pb
from regie_chassis.boundary.ids import new_id, show_id
from regie_gateway.testing.harness import GatewayHarness

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


async def test_another_workspace_sees_nothing_of_it(world: GatewayHarness) -> None:
    async with world.client() as client:
        path = (await client.post("/v1/posts", json=POST)).headers["location"]
    async with world.client(await world.workspace("second")) as stranger:
        answer = await stranger.get(path)
        assert (answer.status_code, answer.json()["reason"]) == (404, "POST_NOT_FOUND")
        assert (await stranger.get("/v1/posts")).json()["posts"] == []
