"""Replies to a post, and the numbers of an account, as the network's API shows them."""

from __future__ import annotations

import httpx2
import pytest
from regie_sandbox.app import build


@pytest.fixture
def client() -> httpx2.AsyncClient:
    headers = {"Authorization": "Bearer sandbox-ada"}
    transport = httpx2.ASGITransport(app=build())
    return httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1:8090", headers=headers)


async def posted(client: httpx2.AsyncClient, text: str, reply_to: str | None = None) -> str:
    made: str = (await client.post("/api/v1/posts", json={"text": text, "reply_to": reply_to})).json()["id"]
    return made


async def test_replies_come_in_pages_from_the_oldest_on(client: httpx2.AsyncClient) -> None:
    question = await posted(client, "question")
    ids = [await posted(client, f"answer {number}", question) for number in range(3)]
    await posted(client, "an answer to an answer", ids[0])
    path = f"/api/v1/posts/{question}/replies"
    first = (await client.get(path, params={"limit": "2"})).json()
    assert ([row["id"] for row in first["replies"]], first["next"]) == (ids[:2], ids[1])
    await client.delete(f"/api/v1/posts/{ids[1]}")
    second = (await client.get(path, params={"limit": "2", "after": first["next"]})).json()
    assert ([row["id"] for row in second["replies"]], second["next"]) == (ids[2:], "")


@pytest.mark.parametrize(
    ("path", "status"),
    [("/api/v1/posts/9/replies", 404), ("/api/v1/posts/{}/replies?limit=0", 422)],
)
async def test_replies_of_no_post_and_odd_limits_are_refused(
    client: httpx2.AsyncClient, path: str, status: int
) -> None:
    question = await posted(client, "question")
    assert (await client.get(path.format(question))).status_code == status


async def test_the_numbers_of_an_account_follow_its_posts(client: httpx2.AsyncClient) -> None:
    before = (await client.get("/api/v1/account/metrics")).json()
    await posted(client, "one")
    after = (await client.get("/api/v1/account/metrics")).json()
    assert after == {**before, "posts": 1}
    assert before["followers"] >= 100
