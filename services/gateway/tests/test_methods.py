"""Paths and the methods that they take."""

from __future__ import annotations

import pytest
from regie_gateway.testing.harness import GatewayHarness

POST_ID = "post_01m8pxs4fke1krhyvz86ejsj2v"


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("OPTIONS", "/v1/posts", "GET, HEAD, POST"),
        ("PUT", f"/v1/posts/{POST_ID}", "GET, HEAD, PATCH"),
        ("DELETE", "/v1/workspace", "GET, HEAD, PATCH"),
        ("GET", "/v1/segments/preview", "POST"),
        ("HEAD", "/v1/segments/preview", "POST"),
        ("HEAD", f"/v1/posts/{POST_ID}/cancel", "POST"),
        ("HEAD", "/v1/events", "GET"),
        ("POST", "/healthz", "GET, HEAD"),
    ],
)
async def test_a_method_that_a_path_does_not_take_is_answered_with_all_that_it_does(
    world: GatewayHarness, method: str, path: str, allow: str
) -> None:
    async with world.client() as client:
        answer = await client.request(method, path)
    assert (answer.status_code, answer.headers["allow"]) == (405, allow)
    assert answer.headers["content-type"] == "application/problem+json"
    assert method == "HEAD" or answer.json()["reason"] == "METHOD_NOT_ALLOWED"


async def test_head_is_get_without_the_body(world: GatewayHarness) -> None:
    async with world.client() as client:
        for path in ("/v1/posts", "/v1/workspace", f"/v1/posts/{POST_ID}", "/openapi.json"):
            get, head = await client.get(path), await client.head(path)
            assert (head.status_code, head.content) == (get.status_code, b"")
            assert head.headers["content-length"] == get.headers["content-length"]
