"""One post, end to end, on an installation where nothing is broken."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from regie_local.local_cluster import LocalCluster
from regie_local.testing.user import Json, User
from regie_local.testing.waiting import until
from regie_publisher.testing.videos import mp4

pytestmark = pytest.mark.processes


async def test_a_post_goes_out_once_on_time_and_tells_its_story(user: User) -> None:
    channel = await user.connect("once")
    post_id = await user.schedule(channel, "hello once #demo", after=1.5)
    due = datetime.fromisoformat((await user.post(post_id))["publish_at"]["time"])
    assert await user.ended(post_id) == "published"

    (seen,) = await user.visible("hello once")
    (call,) = [call for call in await user.calls() if call["text"] == "hello once #demo"]
    lateness = datetime.fromisoformat(call["time"]) - due
    assert timedelta(0) <= lateness < timedelta(seconds=1)

    post = await user.post(post_id)
    (variant,) = post["variants"]
    assert variant["state"] == "published"
    assert variant["remote_id"] == seen["id"]

    entries = await user.timeline(post_id)
    states = [entry["state"] for entry in entries]
    for wanted in ("scheduled", "dispatched", "pending", "claimed", "publishing", "published"):
        assert wanted in states, states
    assert [entry["time"] for entry in entries] == sorted(entry["time"] for entry in entries)
    assert all(len(entry["trace_id"]) == 32 for entry in entries), entries
    assert {entry["attempt"] for entry in entries if entry["state"] == "publishing"} == {1}


async def test_the_numbers_and_the_people_of_a_post_come_in(user: User) -> None:
    channel = await user.connect("numbers")
    post_id = await user.schedule(channel, "count me", after=0.5)
    await user.ended(post_id)

    async def liked() -> int:
        return int((await user.call("GET", f"/v1/posts/{post_id}/metrics"))["totals"].get("likes", 0))

    assert await until(liked, timeout=40, what="likes") > 0
    series = await user.call(
        "GET", f"/v1/posts/{post_id}/metrics/series", params={"metric": "likes", "granularity": "hour"}
    )
    assert series["points"][-1]["total"] > 0

    async def engaged() -> list[Json]:
        profiles = (await user.call("GET", "/v1/profiles"))["profiles"]
        return [profile for profile in profiles if profile["external_id"].startswith("sandbox:")]

    profiles = await until(engaged, timeout=40, what="profiles of people who reacted")
    assert profiles[0]["attributes"]["regie.network"] == "sandbox"


async def test_a_segment_reacts_to_the_people_of_a_post(user: User) -> None:
    rule = {"attribute": "regie.network", "operator": "eq", "value": "sandbox"}
    segment = await user.call("POST", "/v1/segments", status=201, json={"name": "on the sandbox", "rule": rule})
    channel = await user.connect("segment")
    await user.ended(await user.schedule(channel, "gather", after=0.5))

    async def members() -> int:
        return int((await user.call("GET", f"/v1/segments/{segment['segment_id']}"))["member_count"])

    assert await until(members, timeout=40, what="members") > 0


async def test_the_event_stream_tells_of_a_post_and_can_be_replayed(user: User) -> None:
    channel = await user.connect("stream")
    seen: list[tuple[str, Json]] = []

    async def listen(**headers: str) -> None:
        """Reads until both ends have arrived: the delivery's from the publisher, and the post's from the scheduler."""
        event_id, awaited = "", {"PostPublished", "PostFinished"}
        async with user.http.stream("GET", "/v1/events", headers=headers) as answer:
            assert answer.status_code == 200
            async for line in answer.aiter_lines():
                if line.startswith("id:"):
                    event_id = line[3:].strip()
                if line.startswith("data:"):
                    event = json.loads(line[5:])
                    seen.append((event_id, event))
                    awaited.discard(event["type"].rsplit(".", 1)[-1])
                    if not awaited:
                        return

    listening = asyncio.create_task(listen())
    post_id = await user.schedule(channel, "streamed", after=2)
    async with asyncio.timeout(30):
        await listening
    types = [event["type"].rsplit(".", 1)[-1] for _, event in seen if event["data"].get("post_id") == post_id]
    # Each service's events are in their order; those of two services are not ordered among one another.
    assert types.index("PostDue") < types.index("PostFinished")
    assert "PostPublished" in types

    first = next(event_id for event_id, event in seen if event["type"].endswith("PostDue"))
    events, seen[:] = seen[:], []
    async with asyncio.timeout(30):
        await listen(**{"Last-Event-ID": first})
    ids = [event_id for event_id, _ in events]
    assert [event_id for event_id, _ in seen] == ids[ids.index(first) + 1 :]


async def test_a_cancelled_post_never_leaves(user: User) -> None:
    channel = await user.connect("cancel")
    post_id = await user.schedule(channel, "never to be seen", after=2)
    assert (await user.call("POST", f"/v1/posts/{post_id}/cancel"))["state"] == "cancelled"
    other = await user.schedule(channel, "seen instead", after=2.2)
    await user.ended(other)
    assert await user.visible("never to be seen") == []


async def test_a_thread_is_published_in_order(user: User) -> None:
    channel = await user.connect("thread")
    at = (datetime.now(UTC) + timedelta(seconds=0.5)).replace(tzinfo=None).isoformat()
    body = {
        "title": "thread",
        "variants": [{"channel_id": channel, "segments": [{"text": f"thread part {n}"} for n in range(3)]}],
        "publish_at": {"local_time": at, "time_zone": "UTC"},
    }
    post = await user.call("POST", "/v1/posts", status=201, json=body)
    assert await user.ended(post["post_id"]) == "published"
    first, second, third = await user.visible("thread part")
    assert [first["text"], second["text"], third["text"]] == [f"thread part {n}" for n in range(3)]
    assert (second["reply_to"], third["reply_to"]) == (first["id"], second["id"])


async def test_what_the_network_refuses_is_failed_in_its_own_words(user: User) -> None:
    channel = await user.connect("refused")
    await user.faults({"operation": "create_post", "times": 1, "reject": "no cats today", "text_contains": "cat"})
    post_id = await user.schedule(channel, "a cat", after=0.5)
    assert await user.ended(post_id) == "failed"
    assert "no cats today" in (await user.post(post_id))["variants"][0]["failure"]
    (entry,) = [entry for entry in await user.timeline(post_id) if entry["failure_kind"]]
    assert entry["failure_kind"] == "content_rejected"
    assert "no cats today" in entry["network_message"]


async def test_the_same_idempotency_key_makes_one_post(user: User) -> None:
    channel = await user.connect("idempotent")
    body = {"title": "t", "variants": [{"channel_id": channel, "segments": [{"text": "one"}]}]}
    headers = {"Idempotency-Key": "one-post-1"}
    answers = await asyncio.gather(*(user.http.post("/v1/posts", json=body, headers=headers) for _ in range(5)))
    created = {answer.json()["post_id"] for answer in answers if answer.status_code == 201}
    assert len(created) == 1
    assert {answer.status_code for answer in answers} <= {201, 409}
    again = await user.call("POST", "/v1/posts", status=201, json=body, headers=headers)
    assert again["post_id"] in created
    other = await user.call("POST", "/v1/posts", status=422, json={**body, "title": "u"}, headers=headers)
    assert other["reason"] == "IDEMPOTENCY_KEY_REUSED"


async def test_a_video_is_uploaded_and_shown_by_the_network(user: User) -> None:
    data = mp4(size=3_000_000)
    media = await user.call("POST", "/v1/media", status=201, content=data, headers={"Content-Type": "video/mp4"})
    assert (media["content_type"], media["size"], media["duration_seconds"]) == ("video/mp4", len(data), 2.5)
    channel = await user.connect("video")
    attached = {"text": "a door opens", "attachments": [{"media_id": media["media_id"], "alt_text": "a door"}]}
    assert await user.ended(await user.schedule(channel, attached)) == "published"
    [seen] = await user.visible("a door opens")
    [shown] = seen["media"]
    page = (await user.sandbox.get("/@video")).text
    assert f'<video src="/media/{shown["id"]}" aria-label="a door"' in page
    played = await user.sandbox.get(f"/media/{shown['id']}")
    assert (played.headers["content-type"], played.content) == ("video/mp4", data)


async def test_nothing_of_an_upload_stays_beside_its_medium(user: User, installation: LocalCluster) -> None:
    await user.call("POST", "/v1/media", status=422, content=mp4(size=1_000)[:-9])
    assert files(installation.folder.path / "media" / "uploads") == []


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]
