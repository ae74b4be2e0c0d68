"""Every refusal names its reason, the next step, and the place: a JSON Pointer into the body, or a parameter's name."""

from __future__ import annotations

import re
from typing import Any

import pytest
from regie_gateway.http.places import place_of
from regie_gateway.resources.catalogue import RESOURCES
from regie_gateway.testing.harness import GatewayHarness

CHANNEL_ID = "chan_01m8pxs4fke1krhyvz86ejsj2v"
POST_ID = "post_01m8pxs4fke1krhyvz86ejsj2v"
TEXT = {"channel_id": CHANNEL_ID, "text": "x"}
PARIS = {"local_time": "2030-06-01T09:30:00", "time_zone": "Europe/Paris"}
LEAF = {"attribute": "a", "operator": "eq", "value": 1}
INTERNAL = re.compile(r"constrained|literal\[|Value error|Input should|\(text\)|\bdict\b", re.IGNORECASE)
OPERATIONS = {operation.id: operation for resource in RESOURCES for operation in resource.all}


def a_post(**changes: Any) -> dict[str, Any]:
    return {"title": "t", "variants": [TEXT], **changes}


def a_profile(value: Any) -> dict[str, Any]:
    return {"profiles": [{"external_id": "x", "attributes": {"a/b~c" if value == "name" else "a": value}}]}


RESOLVE = "/v1/deliveries/dlv_01m8pxs4gae4pb9vjxqvakaes3/resolve"
BODIES: list[tuple[str, object, str, str]] = [
    ("/v1/posts", [], "", "give an object"),
    ("/v1/posts", a_post(colour=1), "/colour", "leave it out"),
    ("/v1/posts", {"variants": [TEXT]}, "/title", "give it"),
    ("/v1/posts", a_post(title=7), "/title", "give a text"),
    ("/v1/posts", a_post(variants=[]), "/variants", "at least 1"),
    ("/v1/posts", a_post(variants=[TEXT, {**TEXT, "language": "?"}]), "/variants/1/language", "BCP 47"),
    ("/v1/posts", a_post(variants=[{**TEXT, "visibility": "loud"}]), "/variants/0/visibility", "'public', 'unlisted'"),
    ("/v1/posts", a_post(variants=[{**TEXT, "channel_id": POST_ID}]), "/variants/0/channel_id", "begins with chan_"),
    ("/v1/posts", a_post(variants=[{**TEXT, "segments": [{"text": "y"}]}]), "/variants/0", "either text or segments"),
    ("/v1/posts", a_post(variants=[{"channel_id": CHANNEL_ID}]), "/variants/0", "either text or segments"),
    ("/v1/posts", a_post(variants=[{"text": "x"}]), "/variants/0/channel_id", "give it"),
    ("/v1/posts", a_post(variants=[7]), "/variants/0", "give an object"),
    (
        "/v1/posts",
        a_post(variants=[{"channel_id": CHANNEL_ID, "segments": [{"text": "x"}, {"text": 1}]}]),
        "/variants/0/segments/1/text",
        "give a text",
    ),
    ("/v1/posts", a_post(publish_at={**PARIS, "local_time": "2030-06-01T09:30Z"}), "/publish_at/local_time", "offset"),
    ("/v1/posts", a_post(publish_at={**PARIS, "time_zone": "Mars"}), "/publish_at/time_zone", "IANA"),
    ("/v1/profiles", a_profile(2**53 + 1), "/profiles/0/attributes/a", "up to 2^53"),
    ("/v1/profiles", a_profile(["x", 1]), "/profiles/0/attributes/a/1", "give a text"),
    ("/v1/profiles", a_profile({"str": 1}), "/profiles/0/attributes/a", "or a list of texts"),
    ("/v1/profiles", a_profile("x" * 1001), "/profiles/0/attributes/a", "at most 1000 characters"),
    ("/v1/profiles", {"profiles": [{"external_id": "x"}, {}]}, "/profiles/1/external_id", "give it"),
    ("/v1/segments/preview", {"rule": {**LEAF, "value": {"deep": 1}}}, "/rule/value", "or a list of texts"),
    ("/v1/segments/preview", {"rule": {**LEAF, "value": None}}, "/rule/value", "or a list of texts"),
    ("/v1/segments/preview", {"rule": {"attribute": "a", "operator": "eq"}}, "/rule/value", "give it"),
    ("/v1/segments/preview", {"rule": {**LEAF, "operator": "present"}}, "/rule/value", "leave it out"),
    ("/v1/segments/preview", {"rule": {**LEAF, "operator": "like"}}, "/rule/operator", "give one of 'eq'"),
    ("/v1/segments/preview", {"rule": {"all": [LEAF, {"not": {"any": [{}]}}]}}, "/rule/all/1/not/any/0/attribute", ""),
    ("/v1/segments/preview", {"rule": {"all": [LEAF], "any": [LEAF]}}, "/rule/any", "leave it out"),
    ("/v1/segments/preview", {"rule": LEAF, "sample_size": 0}, "/sample_size", "give 1 or more"),
    ("/v1/api-keys", {"name": "n", "scopes": ["posts:read", "x"]}, "/scopes/1", "'posts:read'"),
    ("/v1/api-keys", {"name": "n", "scopes": ["posts:read"], "expire_time": 1}, "/expire_time", "with its offset"),
    (RESOLVE, {"published": False, "remote_url": "https://n.example/1"}, "/remote_url", "leave remote_url out"),
    ("/v1/channels", {"network": "", "credentials": {"a": "b"}}, "/network", "at least 1"),
    ("/v1/channels", {"network": "sandbox", "credentials": {"a": 1}}, "/credentials/a", "give a text"),
]


@pytest.mark.parametrize(("path", "body", "place", "message"), BODIES)
async def test_what_is_wrong_with_a_body_is_told_with_its_place(
    world: GatewayHarness, path: str, body: object, place: str, message: str
) -> None:
    async with world.client() as client:
        answer = await client.post(path, json=body)
    problem = answer.json()
    assert (answer.status_code in {400, 422}, problem["field"]) == (True, place), problem
    assert message in problem["detail"], problem
    assert not INTERNAL.search(problem["detail"].partition(": ")[2]), problem


REQUESTS = [
    ("GET", "/v1/posts?state=draft&state=gone", "state"),
    ("GET", "/v1/posts?page_size=0", "page_size"),
    ("GET", "/v1/posts?page_size=1&page_size=2", "page_size"),
    ("GET", "/v1/posts?colour=red", "colour"),
    ("GET", f"/v1/posts/{POST_ID}?colour=red", "colour"),
    ("GET", "/v1/posts/post_x", "post_id"),
    ("GET", f"/v1/posts/{POST_ID}", "post_id"),
    ("GET", f"/v1/posts/{POST_ID}/metrics/series?metric=likes&metric=replies", "metric"),
    ("GET", f"/v1/posts/{POST_ID}/metrics/series?metric=likes&start=1795513396", "start"),
    ("GET", f"/v1/posts/{POST_ID}/metrics/series?metric=likes&end=2026-11-25", "end"),
    ("GET", "/v1/events?last_event_id=x&last_event_id=y", "last_event_id"),
    ("GET", "/v1/events?types=x", "types"),
    ("GET", "/v1/events?types=", "types"),
    ("GET", "/v1/events?last_event_id=x", "last_event_id"),
    ("GET", "/v1/events?last_event_id=01a22ddc-920a-712c-b4ee-5dbfe01a3a4f", "last_event_id"),
    ("GET", "/v1/workspace?x=1", "x"),
    ("DELETE", f"/v1/api-keys/{POST_ID}", "api_key_id"),
]


@pytest.mark.parametrize(("method", "path", "place"), REQUESTS)
async def test_what_is_wrong_with_a_parameter_is_told_with_its_name(
    world: GatewayHarness, method: str, path: str, place: str
) -> None:
    async with world.client() as client:
        answer = await client.request(method, path)
    assert (400 <= answer.status_code < 500, answer.json()["field"]) == (True, place), answer.text


@pytest.mark.parametrize("name", ["Authorization", "Idempotency-Key", "If-Match", "Content-Type"])
async def test_a_header_that_decides_comes_once(world: GatewayHarness, name: str) -> None:
    async with world.client("") as client:
        answer = await client.post("/v1/posts", headers=[(name, '"1"'), (name, '"2"')], content=b"{}")
    assert (answer.status_code, answer.json()["field"]) == (422, name)


async def test_a_body_that_nobody_reads_is_not_dropped(world: GatewayHarness) -> None:
    async with world.client() as client:
        path = (await client.post("/v1/posts", json=a_post())).headers["location"]
        refused = await client.post(f"{path}/cancel", json={"reason": "rain"})
        assert (refused.status_code, refused.json()["reason"]) == (422, "INVALID_REQUEST")
        assert (await client.post(f"{path}/cancel", json={})).status_code == 200


async def test_a_packed_body_is_told_to_be_sent_as_it_is(world: GatewayHarness) -> None:
    async with world.client() as client:
        headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
        answer = await client.post("/v1/posts", content=b"\x1f\x8b", headers=headers)
    assert (answer.status_code, answer.json()["reason"]) == (415, "UNSUPPORTED_MEDIA_TYPE")
    assert answer.json()["field"] == "Content-Encoding"


async def test_a_whole_number_may_be_written_with_a_point(world: GatewayHarness) -> None:
    async with world.client() as client:
        answer = await client.post("/v1/segments/preview", json={"rule": LEAF, "sample_size": 3.0})
        assert answer.status_code == 200
        half = await client.post("/v1/segments/preview", json={"rule": LEAF, "sample_size": 3.5})
    assert (half.status_code, half.json()["field"]) == (422, "/sample_size")


async def test_a_rule_may_compare_with_a_list(world: GatewayHarness) -> None:
    rules = [{**LEAF, "value": value} for value in ([], ["a", "b"], True, "x", 0.5)]
    async with world.client() as client:
        for rule in rules:
            answer = await client.post("/v1/segments", json={"name": str(rule), "rule": rule})
            assert (answer.status_code, answer.json().get("rule")) == (201, rule)


PLACES = [
    ("create_post", "variants[0].language", {"variants": [TEXT]}, "/variants/0/language"),
    ("create_post", "variants[0].segments[0].text", {"variants": [TEXT]}, "/variants/0/text"),
    (
        "create_post",
        "variants[0].segments[1].attachments[0].media_id",
        {"variants": [{"segments": [{"text": ""}, {"attachments": [{"media_id": "x"}]}]}]},
        "/variants/0/segments/1/attachments/0/media_id",
    ),
    ("schedule_post", "publish_local_time", {"publish_at": PARIS}, "/publish_at/local_time"),
    ("schedule_post", "occurrence", {"publish_at": PARIS}, "/publish_at/occurrence"),
    ("schedule_post", "post_id", {"publish_at": PARIS}, "post_id"),
    ("schedule_post", "revision", {"publish_at": PARIS}, "If-Match"),
    ("edit_post", "revision", {"revision": 1}, "/revision"),
    ("edit_post", "request_id", {}, "Idempotency-Key"),
    ("upload_media", "upload_id", None, ""),
    ("get_post_series", "start_time", None, "start"),
    ("list_posts", "page_token", None, "page_token"),
    ("create_segment", "rule.all[0].comparison.value", {"rule": {"all": [LEAF]}}, "/rule/all/0/value"),
    ("create_segment", "rule.not.comparison.attribute", {"rule": {"not": LEAF}}, "/rule/not/attribute"),
    (
        "upsert_profiles",
        "profiles[0].attributes.a.b",
        {"profiles": [{"attributes": {"a.b": 1}}]},
        "/profiles/0/attributes/a.b",
    ),
    ("connect_channel", "credentials", {"credentials": {}}, "/credentials"),
    ("create_api_key", "Idempotency-Key", {}, "Idempotency-Key"),
    ("get_post", "", None, None),
]


@pytest.mark.parametrize(("operation", "field", "body", "place"), PLACES)
def test_a_services_field_becomes_a_place_in_the_request(operation: str, field: str, body: object, place: str) -> None:
    assert place_of(field, OPERATIONS[operation], body) == place
