"""The API as a client sees it."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

PNG = b"\x89PNG\r\n\x1a\n and the rest"


async def post(client: httpx2.AsyncClient, text: str = "Hello", **fields: Any) -> dict[str, Any]:
    answer = await client.post("/api/v1/posts", json={"text": text, **fields})
    assert answer.status_code == 201, answer.text
    document: dict[str, Any] = answer.json()
    return document


async def test_a_post_is_made_and_read_back(client: httpx2.AsyncClient) -> None:
    made = await post(client, "Grüße 👋", key="k1", language="de", created_at="2026-03-01T12:00:00+00:00")
    assert made["url"] == f"http://127.0.0.1/@ada/{made['id']}"
    assert (made["text"], made["visibility"], made["created_at"]) == (
        "Grüße 👋",
        "public",
        "2026-03-01T12:00:00+00:00",
    )
    assert (await client.get(f"/api/v1/posts/{made['id']}")).json() == made


async def test_the_same_key_twice_is_two_posts_and_is_counted(client: httpx2.AsyncClient) -> None:
    first, second = await post(client, key="k"), await post(client, key="k")
    assert first["id"] != second["id"]
    found = (await client.get("/api/v1/posts", params={"key": "k"})).json()["posts"]
    assert [one["id"] for one in found] == [second["id"], first["id"]]
    assert (await client.get("/admin/posts/count")).json() == {"count": 2, "deleted": 0, "repeated_keys": 1}


async def test_find_sees_only_the_own_account_and_the_key(client: httpx2.AsyncClient) -> None:
    made = await post(client, key="mine")
    await post(client, key="other")
    asked = {"key": "mine"}
    assert [p["id"] for p in (await client.get("/api/v1/posts", params=asked)).json()["posts"]] == [made["id"]]
    bob = {"Authorization": "Bearer sandbox-bob"}
    assert (await client.get("/api/v1/posts", params=asked, headers=bob)).json()["posts"] == []
    asked["account"] = "ada"
    assert len((await client.get("/api/v1/posts", params=asked, headers=bob)).json()["posts"]) == 1


async def test_find_gives_the_newest_up_to_its_limit(client: httpx2.AsyncClient) -> None:
    ids = [(await post(client, f"Post {n}"))["id"] for n in range(4)]
    found = (await client.get("/api/v1/posts", params={"limit": "2"})).json()["posts"]
    assert [one["id"] for one in found] == [ids[3], ids[2]]
    for limit in ("0", "101", "-1", "x", "²"):
        assert (await client.get("/api/v1/posts", params={"limit": limit})).status_code == 422


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({"text": "x" * 501}, "text_too_long"),
        ({"text": "  "}, "text_missing"),
        ({"text": 7}, "text_invalid"),
        ([], "body_invalid"),
        ({"text": "x", "media": "m"}, "media_invalid"),
        ({"text": "x", "media": [{"id": "1"}]}, "media_not_found"),
        ({"text": "x", "media": [{}] * 5}, "media_too_many"),
        ({"text": "x", "reply_to": "1"}, "reply_not_found"),
        ({"text": "x", "visibility": "secret"}, "visibility_invalid"),
        ({"text": "x", "created_at": "yesterday"}, "created_at_invalid"),
        ({"text": "x", "key": "k" * 201}, "key_too_long"),
    ],
)
async def test_a_post_that_breaks_a_rule_is_refused_with_words(
    client: httpx2.AsyncClient, body: object, error: str
) -> None:
    answer = await client.post("/api/v1/posts", json=body)
    assert (answer.status_code, answer.json()["error"]) == (422, error)
    assert answer.json()["message"]
    assert (await client.get("/admin/posts/count")).json()["count"] == 0


async def test_a_body_that_is_no_json_is_refused(client: httpx2.AsyncClient) -> None:
    answer = await client.post("/api/v1/posts", content=b"\xff{")
    assert (answer.status_code, answer.json()["error"]) == (422, "body_invalid")


@pytest.mark.parametrize(
    ("token", "error"),
    [
        ("Bearer expired-ada", "token_expired"),
        ("Bearer other-ada", "token_invalid"),
        ("Basic sandbox-ada", "token_invalid"),
        ("Bearer sandbox-<b>", "token_invalid"),
        ("", "token_invalid"),
    ],
)
async def test_a_bad_token_is_refused_without_an_effect(client: httpx2.AsyncClient, token: str, error: str) -> None:
    answer = await client.post("/api/v1/posts", json={"text": "x"}, headers={"Authorization": token})
    assert (answer.status_code, answer.json()["error"]) == (401, error)
    assert (await client.get("/admin/posts/count")).json()["count"] == 0


async def test_an_expired_token_is_renewed(client: httpx2.AsyncClient) -> None:
    refresh = (await client.get("/api/v1/account")).json()["refresh_token"]
    tokens = [
        (await client.post("/api/v1/token/refresh", json={"refresh_token": refresh})).json()["access_token"]
        for _ in range(2)
    ]
    assert tokens[0] != tokens[1]
    account = await client.get("/api/v1/account", headers={"Authorization": f"Bearer {tokens[0]}"})
    assert account.json()["handle"] == "ada"
    assert (await client.post("/api/v1/token/refresh", json={"refresh_token": "x"})).status_code == 401


async def test_a_picture_is_uploaded_posted_and_served(client: httpx2.AsyncClient) -> None:
    media = (await client.post("/api/v1/media", content=PNG)).json()
    made = await post(client, media=[{"id": media["id"], "alt": "A cat"}])
    assert made["media"] == [{"id": media["id"], "alt": "A cat", "url": media["url"]}]
    served = await client.get(f"/media/{media['id']}")
    assert (served.content, served.headers["content-type"]) == (PNG, "image/png")


async def test_bytes_that_are_no_picture_are_refused(client: httpx2.AsyncClient) -> None:
    answer = await client.post("/api/v1/media", content=b"<script>", headers={"Content-Type": "image/png"})
    assert (answer.status_code, answer.json()["error"]) == (422, "media_rejected")
    assert (await client.post("/api/v1/media", content=PNG + b"0" * 10_000_000)).status_code == 413


async def test_only_the_author_deletes_a_post(client: httpx2.AsyncClient) -> None:
    made = await post(client, key="k")
    path = f"/api/v1/posts/{made['id']}"
    assert (await client.delete(path, headers={"Authorization": "Bearer sandbox-bob"})).status_code == 403
    assert (await client.delete(path)).status_code == 204
    assert (await client.get(path)).status_code == 404
    assert (await client.delete(path)).status_code == 404
    assert (await client.get("/api/v1/posts", params={"key": "k"})).json()["posts"] == []
    assert (await client.get("/admin/posts/count")).json() == {"count": 0, "deleted": 1, "repeated_keys": 0}


async def test_metrics_leave_out_what_does_not_exist(client: httpx2.AsyncClient) -> None:
    made = await post(client)
    rows = (await client.get("/api/v1/posts/metrics", params={"ids": f"{made['id']},9"})).json()["metrics"]
    assert [row["id"] for row in rows] == [made["id"]]
    assert set(rows[0]) == {"id", "likes", "replies", "reposts", "impressions", "engagements"}
    assert (await client.get("/api/v1/posts/metrics")).status_code == 422


async def test_every_call_is_logged_with_its_trace(client: httpx2.AsyncClient) -> None:
    made = (
        await client.post("/api/v1/posts", json={"text": "Hi", "key": "k"}, headers={"traceparent": "00-a-b-01"})
    ).json()
    await client.get("/api/v1/posts", params={"key": "k"})
    await client.get("/api/v1/posts/404")
    calls = (await client.get("/admin/log")).json()["calls"]
    assert [call["operation"] for call in calls] == ["create_post", "find", "get_post"]
    first = calls[0]
    assert first.pop("time").endswith("Z")
    assert first == {
        "sequence": 1,
        "operation": "create_post",
        "account": "ada",
        "key": "k",
        "text": "Hi",
        "effect": made["id"],
        "answered": 201,
        "traceparent": "00-a-b-01",
    }
    assert (calls[1]["key"], calls[1]["effect"], calls[2]["answered"]) == ("k", None, 404)


async def test_the_log_is_filtered_and_cleared_and_counts_on(client: httpx2.AsyncClient) -> None:
    await post(client)
    await client.get("/api/v1/account")
    found = (await client.get("/admin/log", params={"operation": "account", "after": "1"})).json()
    assert [call["sequence"] for call in found["calls"]] == [2]
    assert (await client.delete("/admin/log")).status_code == 204
    await post(client)
    assert [call["sequence"] for call in (await client.get("/admin/log")).json()["calls"]] == [3]
    assert (await client.get("/admin/log", params={"after": "x"})).status_code == 422
