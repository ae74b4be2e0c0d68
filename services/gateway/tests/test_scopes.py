"""A key is shown only the data of its scopes, by every endpoint and the event stream."""

from __future__ import annotations

import pytest
from regie.ids.v1.prefixes import CHANNEL, DELIVERY
from regie.publisher.v1 import deliveries_service_pb2 as publisher_pb
from regie_chassis.boundary.ids import new_id, show_id
from regie_gateway.access.api_keys import SCOPES
from regie_gateway.events.subscriptions import EVENTS, TYPES
from regie_gateway.resources.catalogue import RESOURCES
from regie_gateway.resources.events.stream import _types
from regie_gateway.testing.harness import GatewayHarness

CHANNEL_ID = show_id(CHANNEL, new_id())
POST = {"title": "Opening", "variants": [{"channel_id": CHANNEL_ID, "text": "Doors open at eight."}]}
AT = {"publish_at": {"local_time": "2030-06-01T09:30:00", "time_zone": "Europe/Paris"}}
RULE = {"rule": {"attribute": "a", "operator": "present"}}


async def test_a_preview_shows_people_only_to_who_may_read_them(world: GatewayHarness) -> None:
    async with world.client() as client:
        await client.post("/v1/profiles", json={"profiles": [{"external_id": "x", "attributes": {"a": 1}}]})
        whole = (await client.post("/v1/segments/preview", json=RULE)).json()
    async with world.client(await world.key("segments:read")) as client:
        counted = (await client.post("/v1/segments/preview", json=RULE)).json()
    assert (len(whole["sample"]), counted) == (
        whole["count"],
        {"count": whole["count"], "sample": None, "warnings": []},
    )


async def test_a_key_that_may_only_write_gets_the_effect_and_no_read(world: GatewayHarness) -> None:
    delivery_id = show_id(DELIVERY, new_id())
    world.backends.publisher.deliveries["x"] = [
        publisher_pb.Delivery(delivery_id=delivery_id, state=publisher_pb.DELIVERY_STATE_UNKNOWN)
    ]
    async with world.client() as client:
        path = (await client.post("/v1/posts", json=POST)).headers["location"]
        channel = await client.post("/v1/channels", json={"network": "sandbox", "credentials": {"access_token": "x"}})
    calls: list[tuple[str, str, str, object]] = [
        ("posts:write", "PATCH", path, {"title": "t"}),
        ("posts:write", "POST", f"{path}/schedule", AT),
        ("posts:write", "POST", f"{path}/cancel", None),
        ("posts:write", "POST", f"/v1/deliveries/{delivery_id}/resolve", {"published": True}),
        ("profiles:write", "POST", "/v1/profiles", {"profiles": [{"external_id": "x"}]}),
        ("channels:write", "DELETE", channel.headers["location"], None),
    ]
    for scope, method, address, body in calls:
        async with world.client(await world.key(scope)) as client:
            answer = await client.request(method, address, json=body)
            assert (answer.status_code, answer.content) == (204, b""), address
            assert ("etag" in answer.headers) == ("/posts/" in address)
    async with world.client() as client:
        post = (await client.get(path)).json()
        assert (post["title"], post["state"]) == ("t", "cancelled")


async def test_a_stored_answer_is_not_shown_to_who_may_not_read_it(world: GatewayHarness) -> None:
    headers = {"Idempotency-Key": "k"}
    async with world.client() as client:
        path = (await client.post("/v1/posts", json=POST)).headers["location"]
        first = await client.post(f"{path}/schedule", json=AT, headers=headers)
    async with world.client(await world.key("posts:write")) as client:
        again = await client.post(f"{path}/schedule", json=AT, headers=headers)
    assert (first.status_code, again.status_code, again.content) == (200, 204, b"")
    assert again.headers["idempotent-replayed"] == "true"


def test_every_write_that_answers_with_what_it_did_not_get_takes_a_reading_scope() -> None:
    # What a creation answers with came with the request; anybody's key may read the workspace; keys need keys:manage.
    own = {"create_post", "connect_channel", "upload_media", "create_segment", "create_api_key", "update_workspace"}
    writes = [one for resource in RESOURCES for one in resource.all if one.method != "GET" and one.answer is not None]
    without = {one.id for one in writes if one.reads is None}
    assert without == own | {"preview_segment", "delete_segment"}
    assert {one.reads for one in writes} - {None} <= set(SCOPES)


def test_every_event_is_told_to_keys_that_may_read_what_it_is_about() -> None:
    assert set(EVENTS.values()) <= {*SCOPES, None}
    assert _types([], SCOPES) == frozenset()
    types = {name.rsplit(".", 1)[1] for name in _types([], {"events:read", "posts:read"})}
    assert {"PostDue", "PostPublished", "WorkspaceUpdated"} <= types
    assert not types & {"ProfileUpdated", "ApiKeyCreated", "ChannelConnected", "EngagementObserved"}
    for name, scope in TYPES.items():
        assert (name in _types([], {"events:read"})) == (scope is None)


@pytest.mark.parametrize("query", ["types=regie.gateway.events.v1.ApiKeyCreated", "types=x,regie.y"])
async def test_a_type_that_a_key_may_not_read_is_refused_by_name(world: GatewayHarness, query: str) -> None:
    async with world.client(await world.key("events:read")) as client:
        answer = await client.get(f"/v1/events?{query}")
    assert (answer.status_code, answer.json()["field"]) == (403 if "gateway" in query else 400, "types")
