"""ETag and If-Match; and repeated requests with the same meaning in another spelling."""

from __future__ import annotations

import pytest
from regie.ids.v1.prefixes import CHANNEL
from regie.scheduler.v1 import posts_service_pb2 as pb
from regie_chassis.boundary.ids import new_id, show_id
from regie_gateway.testing.harness import GatewayHarness

CHANNEL_ID = show_id(CHANNEL, new_id())
POST = {"title": "Opening", "variants": [{"channel_id": CHANNEL_ID, "text": "Doors open at eight."}]}
AT = {"publish_at": {"local_time": "2030-06-01T09:30:00", "time_zone": "Europe/Paris"}}
CHANGES = [("PATCH", "", {"title": "t"}), ("POST", "/schedule", AT), ("POST", "/cancel", None)]


@pytest.mark.parametrize(("method", "step", "body"), CHANGES)
async def test_a_post_is_changed_only_at_the_revision_that_was_seen(
    world: GatewayHarness, method: str, step: str, body: object
) -> None:
    async with world.client() as client:
        created = await client.post("/v1/posts", json=POST)
        path, tag = created.headers["location"], created.headers["etag"]
        assert (tag, (await client.get(path)).headers["etag"]) == ('"1"', '"1"')
        for stale in ('"7"', '"abc"', 'W/"1"', '""'):
            answer = await client.request(method, path + step, json=body, headers={"If-Match": stale})
            assert (answer.status_code, answer.json()["reason"]) == (412, "PRECONDITION_FAILED"), stale
            assert answer.json()["field"] == "If-Match"
        for wrong in ("1", "", '"1', '"1", "2"'):
            answer = await client.request(method, path + step, json=body, headers={"If-Match": wrong})
            assert (answer.status_code, answer.json()["reason"]) == (400, "INVALID_IF_MATCH"), wrong
        assert (await client.get(path)).json() == created.json()
        done = await client.request(method, path + step, json=body, headers={"If-Match": tag})
        assert (done.status_code, done.headers["etag"]) == (200, f'"{done.json()["revision"]}"')


async def test_the_revision_in_the_body_and_if_match_do_not_contradict(world: GatewayHarness) -> None:
    async with world.client() as client:
        path = (await client.post("/v1/posts", json=POST)).headers["location"]
        both = await client.patch(path, json={"revision": 2}, headers={"If-Match": '"1"'})
        assert (both.status_code, both.json()["field"]) == (422, "/revision")
        body = await client.patch(path, json={"revision": 2})
        assert (body.status_code, body.json()["reason"], body.json()["field"]) == (
            409,
            "REVISION_CONFLICT",
            "/revision",
        )
        assert (await client.patch(path, json={"revision": 1}, headers={"If-Match": "*"})).status_code == 200


async def test_if_match_is_not_ignored_where_there_is_no_etag(world: GatewayHarness) -> None:
    async with world.client() as client:
        answer = await client.patch("/v1/workspace", json={}, headers={"If-Match": '"1"'})
    assert (answer.status_code, answer.json()["field"]) == (422, "If-Match")


async def test_a_cancellation_says_what_may_still_come_out(world: GatewayHarness) -> None:
    async with world.client() as client:
        created = (await client.post("/v1/posts", json=POST)).json()
        assert created["cancellation"] is None
        (post,) = world.backends.scheduler.memory.rows.values()
        post.state = pb.POST_STATE_DISPATCHED
        post.variants[0].state = pb.VARIANT_STATE_PENDING
        answer = (await client.post(f"/v1/posts/{created['post_id']}/cancel")).json()
        assert (answer["state"], answer["cancellation"]["open_channel_ids"]) == ("dispatched", [CHANNEL_ID])
        post.variants[0].state = pb.VARIANT_STATE_CANCELLED
        assert (await client.get(f"/v1/posts/{created['post_id']}")).json()["cancellation"]["open_channel_ids"] == []


async def test_the_same_value_in_other_letters_is_the_same_request(world: GatewayHarness) -> None:
    headers = {"Idempotency-Key": "k", "Content-Type": "application/json"}
    one = b'{"rule": {"attribute": "a", "operator": "eq", "value": 1}, "sample_size": 3}'
    same = b'{"sample_size":3.0,"rule":{"value":1.0,"operator":"eq","attribute":"a"}}'
    other = b'{"sample_size":3,"rule":{"value":2,"operator":"eq","attribute":"a"}}'
    async with world.client() as client:
        answers = [
            await client.post("/v1/segments/preview", content=body, headers=headers) for body in (one, same, other)
        ]
    assert [answer.status_code for answer in answers] == [200, 200, 422]
    assert answers[1].headers["idempotent-replayed"] == "true"
    assert answers[2].json()["reason"] == "IDEMPOTENCY_KEY_REUSED"
