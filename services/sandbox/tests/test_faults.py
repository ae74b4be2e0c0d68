"""The knobs, as far as the in-process transport can show them; cut connections are in test_process."""

from __future__ import annotations

import httpx2
import pytest
from regie_sandbox.faults import Faults, UnusableRule, read_rule

POST = {"text": "Hello", "key": "k"}


async def turn(client: httpx2.AsyncClient, *rules: dict[str, object]) -> None:
    answer = await client.put("/admin/faults", json=list(rules))
    assert answer.status_code == 200, answer.text


async def count(client: httpx2.AsyncClient) -> int:
    found: int = (await client.get("/admin/posts/count")).json()["count"]
    return found


@pytest.mark.parametrize(("fault", "posts"), [("fail_before", 0), ("fail_after", 1)])
async def test_a_5xx_comes_before_or_after_the_effect(client: httpx2.AsyncClient, fault: str, posts: int) -> None:
    await turn(client, {"operation": "create_post", "times": 1, fault: 503})
    assert (await client.post("/api/v1/posts", json=POST)).status_code == 503
    assert await count(client) == posts
    last = (await client.get("/admin/log")).json()["calls"][-1]
    assert (last["answered"], last["effect"] is not None) == (503, posts == 1)
    assert (await client.post("/api/v1/posts", json=POST)).status_code == 201


async def test_a_rate_limit_says_how_long_to_wait(client: httpx2.AsyncClient) -> None:
    await turn(client, {"rate_limit": 2.5})
    answer = await client.post("/api/v1/posts", json=POST)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "2.5")
    assert await count(client) == 0


async def test_a_rejection_uses_the_given_words_for_the_given_text(client: httpx2.AsyncClient) -> None:
    await turn(client, {"reject": "Not with us.", "text_contains": "spam"})
    assert (await client.post("/api/v1/posts", json=POST)).status_code == 201
    answer = await client.post("/api/v1/posts", json={"text": "some spam"})
    assert (answer.status_code, answer.json()["message"]) == (422, "Not with us.")


async def test_an_expired_token_stays_expired_and_its_successor_is_good(client: httpx2.AsyncClient) -> None:
    await turn(client, {"expire_tokens": True, "times": 1})
    for _ in range(2):
        assert (await client.post("/api/v1/posts", json=POST)).json()["error"] == "token_expired"
    answer = await client.post("/api/v1/token/refresh", json={"refresh_token": "refresh-ada"})
    good = {"Authorization": f"Bearer {answer.json()['access_token']}"}
    assert (await client.post("/api/v1/posts", json=POST, headers=good)).status_code == 201


async def test_a_post_in_processing_becomes_visible_with_its_last_poll(client: httpx2.AsyncClient) -> None:
    await turn(client, {"processing_polls": 2, "times": 1})
    answer = await client.post("/api/v1/posts", json=POST)
    assert answer.status_code == 202
    handle = answer.json()["handle"]
    found = (await client.get("/api/v1/posts", params={"key": "k"})).json()
    assert (found["posts"], found["processing"]) == ([], [{"handle": handle}])
    path = f"/api/v1/processing/{handle}"
    assert (await client.get(path)).json()["status"] == "processing"
    assert await count(client) == 0
    done = (await client.get(path)).json()
    assert (done["status"], await count(client)) == ("done", 1)
    assert (await client.get(path)).json() == done
    assert (await client.get("/api/v1/posts", params={"key": "k"})).json()["processing"] == []
    effects = [call for call in (await client.get("/admin/log")).json()["calls"] if call["effect"]]
    assert [(call["operation"], call["key"]) for call in effects] == [("processing", "k")]
    assert (await client.get("/api/v1/processing/work-9")).status_code == 404


async def test_rules_are_shown_with_what_is_left_and_cleared(client: httpx2.AsyncClient) -> None:
    await turn(client, {"operation": "find", "fail_before": 500, "times": 2}, {"latency_ms": 1})
    await client.get("/api/v1/posts")
    assert (await client.get("/admin/faults")).json()["rules"] == [
        {"operation": "find", "fail_before": 500, "times": 1},
        {"latency_ms": 1, "times": None},
    ]
    assert (await client.delete("/admin/faults")).json() == {"rules": []}


@pytest.mark.parametrize(
    "rule",
    [
        {},
        {"times": 1},
        {"fail_before": 404},
        {"fail_before": True},
        {"latency_ms": -1},
        {"latency_ms": "5"},
        {"operation": "nonsense", "hang": True},
        {"hang": False},
        {"drop_before": True, "hang": True},
        {"nonsense": 1},
        {"reject": ""},
        {"rate_limit": float("nan")},
        "hang",
    ],
)
def test_a_rule_that_means_nothing_is_refused(rule: object) -> None:
    with pytest.raises(UnusableRule):
        read_rule(rule)


async def test_a_refused_list_leaves_the_rules_as_they_were(client: httpx2.AsyncClient) -> None:
    await turn(client, {"fail_before": 500})
    assert (await client.put("/admin/faults", json=[{"nonsense": 1}])).status_code == 422
    assert (await client.put("/admin/faults", content=b"{")).status_code == 422
    assert len((await client.get("/admin/faults")).json()["rules"]) == 1


def test_of_two_endings_the_first_is_used_and_the_second_waits() -> None:
    faults = Faults()
    faults.replace([{"fail_before": 500, "times": 1}, {"fail_after": 503, "times": 1}, {"latency_ms": 5}])
    assert [faults.take("create_post", "").ending for _ in range(3)] == ["fail_before", "fail_after", None]
    assert faults.take("create_post", "").latency_ms == 5
