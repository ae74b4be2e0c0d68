"""Pages of other origins may call as far as the setting allows, and not without it."""

from __future__ import annotations

import asyncio

import httpx2
import pytest
from regie.ids.v1.prefixes import CHANNEL, POST
from regie.scheduler.v1 import posts_service_pb2 as pb
from regie_chassis.boundary.ids import new_id, show_id
from regie_chassis.process.clock import SystemClock
from regie_gateway.http.cors import REQUEST_HEADERS, RESPONSE_HEADERS
from regie_gateway.testing.harness import GatewayHarness, MakeHarness
from regie_local.testing.clock import FakeClock

PAGE = "https://app.example.org"
OTHER = "https://evil.example.org"
POST_ID = show_id(POST, new_id())
PREFLIGHT = {
    "Origin": PAGE,
    "Access-Control-Request-Method": "PATCH",
    "Access-Control-Request-Headers": "authorization,if-match,idempotency-key,content-type,last-event-id,traceparent",
}


def names(header: str) -> set[str]:
    """Returns a comma separated header's entries in lower case."""
    return {entry.strip().lower() for entry in header.split(",")}


def allowed(answer: httpx2.Response) -> dict[str, str]:
    """Returns the headers of the CORS protocol."""
    return {name: value for name, value in answer.headers.items() if name.startswith("access-control-")}


async def test_a_preflight_takes_no_key_and_is_answered_in_full(make_world: MakeHarness, clock: FakeClock) -> None:
    world = await make_world(clock, cors_origins=f"{PAGE},http://localhost:5173")
    async with world.client("") as client:
        answer = await client.options(f"/v1/posts/{POST_ID}", headers=PREFLIGHT)
    assert (answer.status_code, answer.content) == (204, b"")
    assert answer.headers["access-control-allow-origin"] == PAGE
    assert names(answer.headers["access-control-allow-methods"]) == {"delete", "get", "head", "patch", "post"}
    wanted = names(PREFLIGHT["Access-Control-Request-Headers"])
    assert wanted <= names(answer.headers["access-control-allow-headers"])
    assert int(answer.headers["access-control-max-age"]) >= 600
    assert "origin" in names(answer.headers["vary"])
    assert "access-control-allow-credentials" not in answer.headers


async def test_preflights_are_not_counted_as_requests(make_world: MakeHarness, clock: FakeClock) -> None:
    world = await make_world(clock, cors_origins=PAGE, rate_per_second=1, rate_burst=1)
    async with world.client() as client:
        for _ in range(5):
            assert (await client.options("/v1/posts", headers=PREFLIGHT)).status_code == 204
        assert (await client.get("/v1/posts", headers={"Origin": PAGE})).status_code == 200
        limited = await client.get("/v1/posts", headers={"Origin": PAGE})
    assert limited.status_code == 429
    assert limited.headers["access-control-allow-origin"] == PAGE
    assert {"retry-after", "ratelimit", "ratelimit-policy"} <= names(limited.headers["access-control-expose-headers"])


async def test_an_origin_that_is_not_allowed_reads_nothing(make_world: MakeHarness, clock: FakeClock) -> None:
    world = await make_world(clock, cors_origins=PAGE)
    async with world.client() as client:
        preflight = await client.options("/v1/posts", headers=PREFLIGHT | {"Origin": OTHER})
        answer = await client.get("/v1/posts", headers={"Origin": OTHER})
        similar = await client.get("/v1/posts", headers={"Origin": PAGE + ".evil.org"})
    assert (preflight.status_code, preflight.json()["reason"]) == (403, "ORIGIN_NOT_ALLOWED")
    for one in (preflight, answer, similar):
        assert allowed(one) == {}
        assert "origin" in names(one.headers["vary"])


async def test_without_the_setting_nothing_is_allowed(world: GatewayHarness) -> None:
    async with world.client() as client:
        preflight = await client.options("/v1/posts", headers=PREFLIGHT)
        answer = await client.get("/v1/posts", headers={"Origin": PAGE})
    assert (preflight.status_code, allowed(preflight)) == (405, {})
    assert (answer.status_code, allowed(answer)) == (200, {})


async def test_a_star_allows_all_origins_and_no_credentials(make_world: MakeHarness, clock: FakeClock) -> None:
    world = await make_world(clock, cors_origins="*")
    async with world.client() as client:
        preflight = await client.options("/v1/posts", headers=PREFLIGHT | {"Origin": "null"})
        answer = await client.get("/v1/posts", headers={"Origin": OTHER})
    for one in (preflight, answer):
        assert one.headers["access-control-allow-origin"] == "*"
        assert "access-control-allow-credentials" not in one.headers


async def test_options_that_is_no_preflight_is_answered_as_before(make_world: MakeHarness, clock: FakeClock) -> None:
    world = await make_world(clock, cors_origins=PAGE)
    async with world.client() as client:
        answer = await client.options("/v1/posts", headers={"Origin": PAGE})
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD, POST")
    assert answer.headers["access-control-allow-origin"] == PAGE


@pytest.mark.parametrize("status", [401, 404, 405, 413, 422, 500, 503])
async def test_a_page_can_read_every_error(make_world: MakeHarness, clock: FakeClock, status: int) -> None:
    world = await make_world(clock, cors_origins=PAGE, body_limit=1024)
    origin = {"Origin": PAGE}
    async with world.client("" if status == 401 else None) as client:
        if status == 500:
            channel_id = show_id(CHANNEL, new_id())
            body = {"title": "t", "variants": [{"channel_id": channel_id, "text": "x"}]}
            post_id = (await client.post("/v1/posts", json=body)).json()["post_id"]
            stored = next(row for row in world.backends.scheduler.memory.rows.values() if isinstance(row, pb.Post))
            stored.MergeFromString(b"\x18\x63")  # the state 99, which this gateway has no name for
            answer = await client.get(f"/v1/posts/{post_id}", headers=origin)
        elif status == 413:
            answer = await client.post("/v1/posts", content=b" " * 2000, headers=origin)
        elif status == 422:
            answer = await client.get("/v1/posts?nothing=1", headers=origin)
        elif status == 405:
            answer = await client.put("/v1/posts", headers=origin)
        else:
            world.backends.scheduler.memory.down = status == 503
            answer = await client.get(f"/v1/posts/{POST_ID}", headers=origin)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["access-control-allow-origin"] == PAGE
    assert names(answer.headers["access-control-expose-headers"]) == {name.lower() for name in RESPONSE_HEADERS}
    assert "origin" in names(answer.headers["vary"])


async def test_a_page_can_follow_the_stream(make_world: MakeHarness) -> None:
    world = await make_world(SystemClock(), cors_origins=PAGE)
    async with (
        asyncio.timeout(20),
        world.gateway.app,
        world.network_client() as client,
        client.stream("GET", "/v1/events", headers={"Origin": PAGE}) as answer,
    ):
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["access-control-allow-origin"] == PAGE
        assert "retry:" in await anext(answer.aiter_text())


async def test_every_header_of_the_document_may_be_sent_and_read(world: GatewayHarness) -> None:
    document = world.gateway.application.openapi()
    operations = [one for methods in document["paths"].values() for one in methods.values()]
    sent = {one["name"] for operation in operations for one in operation.get("parameters", ()) if one["in"] == "header"}
    assert sent <= set(REQUEST_HEADERS)
    assert set(document["components"]["headers"]) <= set(RESPONSE_HEADERS)
