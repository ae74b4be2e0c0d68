"""Pages of other origins, and names that lead here, get nothing."""

from __future__ import annotations

import httpx2
import pytest
from regie_sandbox.app import build


@pytest.mark.parametrize("host", ["attacker.example", "127.0.0.1.attacker.example", "attacker.example:8090", "", "[x"])
async def test_a_name_that_is_not_ours_is_refused(client: httpx2.AsyncClient, host: str) -> None:
    for method, path in (("GET", "/"), ("GET", "/admin/log"), ("POST", "/api/v1/posts"), ("PUT", "/admin/faults")):
        answer = await client.request(method, path, headers={"Host": host})
        assert (answer.status_code, answer.json()["error"]) == (421, "host_unknown")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:8090", "localhost:9", "[::1]:8090", "sandbox:8090"])
async def test_our_own_names_are_answered(host: str) -> None:
    transport = httpx2.ASGITransport(build(allowed_hosts=["sandbox:8090"]))
    async with httpx2.AsyncClient(transport=transport, base_url="http://x") as client:
        assert (await client.get("/healthz", headers={"Host": host})).status_code == 200
        assert (await client.get("/healthz", headers={"Host": "sandbox:8091"})).status_code == 421


@pytest.mark.parametrize("origin", ["https://attacker.example", "null", "http://127.0.0.1:3000", "http://[x"])
async def test_a_page_of_another_origin_posts_nothing(client: httpx2.AsyncClient, origin: str) -> None:
    headers = {"Origin": origin, "Content-Type": "text/plain", "Host": "127.0.0.1:8090"}
    answer = await client.post("/api/v1/posts", content=b'{"text": "x"}', headers=headers)
    assert (answer.status_code, answer.json()["error"]) == (403, "origin_foreign")
    assert (await client.get("/admin/posts/count")).json()["count"] == 0


async def test_its_own_page_is_served(client: httpx2.AsyncClient) -> None:
    headers = {"Origin": "http://127.0.0.1:8090", "Host": "127.0.0.1:8090"}
    assert (await client.put("/admin/faults", json=[], headers=headers)).status_code == 200
