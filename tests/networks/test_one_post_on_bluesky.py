"""One post, end to end, on a real Bluesky network: from the REST call to the people who liked it."""

from __future__ import annotations

import asyncio
import io
import itertools
import json
from collections.abc import AsyncIterator, Iterator
from datetime import datetime, timedelta
from typing import NamedTuple
from urllib.parse import urlsplit

import pytest
from PIL import Image
from regie_local.local_cluster import LocalCluster
from regie_local.testing.bluesky import BlueskyNetwork, BlueskyProxy
from regie_local.testing.user import Json, User, open_user, path_to
from regie_local.testing.waiting import until

pytestmark = pytest.mark.networks

PUT, GET = "com.atproto.repo.putRecord", "com.atproto.repo.getRecord"
LEASE_OVER = 60.0  # seconds; the lease of a killed publisher has to run out first

_numbers = itertools.count(1)


class Channel(NamedTuple):
    """A connected account."""

    id: str
    did: str
    handle: str


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory, bluesky_network: BlueskyNetwork) -> Iterator[LocalCluster]:
    """One of everything, with a publisher that may call the network on the loopback."""
    servers = [urlsplit(url).netloc for url in (bluesky_network.pds_url, bluesky_network.limited_pds_url)]
    places = ",".join([*servers, f"127.0.0.1:{bluesky_network.proxy_port}"])
    env = {"publisher": {"PUBLISHER_ALLOWED_HOSTS": places}}
    with LocalCluster(tmp_path_factory.mktemp("installation"), fsync=False, env=env) as running:
        yield running


@pytest.fixture
async def user(installation: LocalCluster) -> AsyncIterator[User]:
    async with open_user(installation) as someone:
        yield someone


@pytest.fixture
async def channel(user: User, bluesky_network: BlueskyNetwork) -> Channel:
    """A fresh account on the PDS, connected."""
    return await _connect(user, bluesky_network, bluesky_network.pds_url)


async def _connect(user: User, network: BlueskyNetwork, server_url: str, *, limited: bool = False) -> Channel:
    account = network.create_account(f"writer{next(_numbers)}.test", limited=limited)
    credentials = {"identifier": account.identifier, "app_password": account.password}
    body = {"network": "bluesky", "server_url": server_url, "credentials": credentials}
    made = await user.call("POST", "/v1/channels", status=201, json=body)
    assert (made["remote_id"], made["handle"], made["state"]) == (account.did, account.identifier, "active")
    return Channel(made["channel_id"], account.did, account.identifier)


async def _states(user: User, post_id: str) -> list[str]:
    return [entry["state"] for entry in await user.timeline(post_id) if entry["subject"] == "delivery"]


async def test_a_post_with_its_link_hashtag_and_mention_is_on_the_network_once(
    user: User, bluesky_network: BlueskyNetwork, channel: Channel
) -> None:
    friend = bluesky_network.create_account(f"writer{next(_numbers)}.test")
    text = f"👋🏽 @{friend.identifier}, doors open at eight: https://example.com/a?b=ü #Größe"
    post_id = await user.schedule(channel.id, text)
    due = datetime.fromisoformat((await user.post(post_id))["publish_at"]["time"])
    assert await user.ended(post_id) == "published"

    [record] = bluesky_network.records(channel.did)
    value = record["value"]
    assert value["text"] == text
    facets = [
        (text.encode()[facet["index"]["byteStart"] : facet["index"]["byteEnd"]].decode(), *facet["features"])
        for facet in value["facets"]
    ]
    kind = "app.bsky.richtext.facet"
    assert facets == [
        (f"@{friend.identifier}", {"$type": f"{kind}#mention", "did": friend.did}),
        ("https://example.com/a?b=ü", {"$type": f"{kind}#link", "uri": "https://example.com/a?b=ü"}),
        ("#Größe", {"$type": f"{kind}#tag", "tag": "Größe"}),
    ]
    assert timedelta(0) <= datetime.fromisoformat(value["createdAt"]) - due < timedelta(seconds=1)

    [variant] = (await user.post(post_id))["variants"]
    assert variant["remote_id"] == f"{record['uri']}|{record['cid']}"
    key = record["uri"].rpartition("/")[2]
    assert variant["remote_url"] == f"https://bsky.app/profile/{channel.did}/post/{key}"
    assert (await _states(user, post_id))[-3:] == ["claimed", "publishing", "published"]
    assert all(len(entry["trace_id"]) == 32 for entry in await user.timeline(post_id))


async def test_a_picture_is_on_the_network_with_its_alt_text_and_shape(
    user: User, bluesky_network: BlueskyNetwork, channel: Channel
) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 48), "teal").save(buffer, "PNG")
    headers = {"Content-Type": "image/png"}
    media = await user.call("POST", "/v1/media", status=201, content=buffer.getvalue(), headers=headers)
    picture = {"media_id": media["media_id"], "alt_text": "Ein blaues Rechteck 🟦"}
    post_id = await user.schedule(channel.id, {"text": "look", "attachments": [picture]})
    assert await user.ended(post_id) == "published"

    [record] = bluesky_network.records(channel.did)
    [image] = record["value"]["embed"]["images"]
    assert (image["alt"], image["aspectRatio"]) == ("Ein blaues Rechteck 🟦", {"width": 64, "height": 48})
    assert (image["image"]["mimeType"], image["image"]["size"]) == ("image/png", media["size"])


async def test_the_parts_of_a_thread_answer_one_another(
    user: User, bluesky_network: BlueskyNetwork, channel: Channel
) -> None:
    post_id = await user.schedule(channel.id, "one", "two", "three")
    assert await user.ended(post_id) == "published"
    records = {record["value"]["text"]: record for record in bluesky_network.records(channel.did)}
    refs = {text: {"uri": record["uri"], "cid": record["cid"]} for text, record in records.items()}
    assert set(refs) == {"one", "two", "three"}
    assert "reply" not in records["one"]["value"]
    assert records["two"]["value"]["reply"] == {"root": refs["one"], "parent": refs["one"]}
    assert records["three"]["value"]["reply"] == {"root": refs["one"], "parent": refs["two"]}
    [variant] = (await user.post(post_id))["variants"]
    assert variant["remote_id"] == f"{refs['one']['uri']}|{refs['one']['cid']}"


async def test_one_trace_leads_from_the_due_time_to_the_numbers_and_to_the_people(
    user: User, bluesky_network: BlueskyNetwork, channel: Channel
) -> None:
    reader = bluesky_network.create_account(f"writer{next(_numbers)}.test")
    post_id = await user.schedule(channel.id, "like this")
    assert await user.ended(post_id) == "published"
    [record] = bluesky_network.records(channel.did)
    bluesky_network.like(reader.did, record["uri"], record["cid"])

    async def liked() -> dict[str, int]:
        totals: dict[str, int] = (await user.call("GET", f"/v1/posts/{post_id}/metrics"))["totals"]
        return totals if totals.get("likes") else {}

    assert await until(liked, timeout=40, what="the like") == {"likes": 1, "replies": 0, "reposts": 0, "quotes": 0}

    async def known() -> Json:
        profiles = (await user.call("GET", "/v1/profiles"))["profiles"]
        return next((one for one in profiles if one["external_id"] == f"bluesky:{reader.did}"), {})

    profile = await until(known, what="the profile of the person who liked")
    assert profile["attributes"]["regie.network"] == "bluesky"

    [trace_id] = {entry["trace_id"] for entry in await user.timeline(post_id) if entry["state"] == "published"}

    ends = {
        ("publisher", "POST"),
        ("metrics", "process PostMetricsObserved"),
        ("audience", "process EngagementObserved"),
    }
    spans = await until(lambda: _collected(user, trace_id, ends), what="the whole trace")
    delivery = [("scheduler", "due PostDue"), ("scheduler", "publish PostDue"), ("publisher", "process PostDue")]
    delivery.append(("publisher", "deliver bluesky"))
    assert path_to(spans, "POST") == [*delivery, ("publisher", "publish"), ("publisher", "POST")]
    for event, service in (("PostMetricsObserved", "metrics"), ("EngagementObserved", "audience")):
        path = path_to(spans, f"process {event}", service=service)
        assert path == [*delivery, ("publisher", f"publish {event}"), (service, f"process {event}")]

    due = next(span for span in spans if span["name"] == "due PostDue")
    [link] = due["links"]
    asked = await until(
        lambda: _collected(user, link["trace_id"], {("gateway", "POST /v1/posts"), ("scheduler", "transaction")}),
        what="the trace of the REST call",
    )
    assert path_to(asked, "transaction")[0] == ("gateway", "POST /v1/posts")


async def _collected(user: User, trace_id: str, ends: set[tuple[str, str]]) -> list[Json]:
    """Returns a trace once these spans (service, name) are there and none lacks its parent."""
    spans = await user.spans(trace_id)
    ids = {"", *(span["span_id"] for span in spans)}
    there = {(span["service"], span["name"]) for span in spans}
    return spans if ends <= there and all(span["parent_id"] in ids for span in spans) else []


async def test_a_publisher_killed_after_the_network_took_the_post_finds_it_and_writes_no_other(
    user: User, installation: LocalCluster, bluesky_network: BlueskyNetwork, bluesky_proxy: BlueskyProxy
) -> None:
    channel = await _connect(user, bluesky_network, bluesky_proxy.url)
    bluesky_proxy.keep_back(PUT)
    post_id = await user.schedule(channel.id, "taken, then killed")
    assert await asyncio.to_thread(bluesky_proxy.kept_back.wait, 20)
    await asyncio.to_thread(installation.kill, "publisher")
    [record] = bluesky_network.records(channel.did)
    bluesky_proxy.let_go()
    await asyncio.to_thread(installation.restart, "publisher")

    assert await user.ended(post_id, within=LEASE_OVER) == "published"
    await _assert_found_and_not_written_again(user, bluesky_proxy, post_id)
    assert bluesky_network.records(channel.did) == [record]


async def test_a_post_whose_answer_was_lost_is_found_and_not_written_again(
    user: User, bluesky_network: BlueskyNetwork, bluesky_proxy: BlueskyProxy
) -> None:
    channel = await _connect(user, bluesky_network, bluesky_proxy.url)
    bluesky_proxy.keep_back(PUT)
    bluesky_proxy.let_go()
    post_id = await user.schedule(channel.id, "lost on the way back")
    assert await user.ended(post_id) == "published"
    await _assert_found_and_not_written_again(user, bluesky_proxy, post_id)
    assert len(bluesky_network.records(channel.did)) == 1


async def _assert_found_and_not_written_again(user: User, proxy: BlueskyProxy, post_id: str) -> None:
    [(status, _)] = proxy.calls_of(PUT)
    assert status == 200
    entries = [entry for entry in await user.timeline(post_id) if entry["subject"] == "delivery"]
    assert [entry["state"] for entry in entries][-3:] == ["publishing", "unknown", "published"]
    assert (entries[-1]["cause"], entries[-1]["attempt"]) == ("find", 1)
    assert proxy.calls_of(GET)[-1][0] == 200


async def test_a_session_that_expired_before_the_post_was_due_is_renewed_on_the_way(
    user: User, bluesky_network: BlueskyNetwork, bluesky_proxy: BlueskyProxy
) -> None:
    bluesky_proxy.expire_sessions = True
    channel = await _connect(user, bluesky_network, bluesky_proxy.url)
    for text in ("with a worn-out session", "with the renewed one"):
        post_id = await user.schedule(channel.id, text)
        assert await user.ended(post_id) == "published"
        assert "failed" not in await _states(user, post_id)
    puts = bluesky_proxy.calls_of(PUT)
    assert [status for status, _ in puts] == [400, 200, 200]
    assert puts[0][1] == puts[1][1]
    assert json.loads(puts[1][1])["rkey"] != json.loads(puts[2][1])["rkey"]
    assert [status for status, _ in bluesky_proxy.calls_of("com.atproto.server.refreshSession")] == [200]
    assert len(bluesky_network.records(channel.did)) == 2


async def test_a_spent_write_budget_is_told_in_the_networks_own_words(
    user: User, bluesky_network: BlueskyNetwork
) -> None:
    channel = await _connect(user, bluesky_network, bluesky_network.limited_pds_url, limited=True)
    bluesky_network.spend_write_budget(channel.did)
    post_id = await user.schedule(channel.id, "too much")
    assert await user.ended(post_id) == "failed"
    [entry] = [one for one in await user.timeline(post_id) if one["network_message"]]
    assert (entry["state"], entry["cause"]) == ("failed", "refused")
    assert entry["network_message"].startswith("RateLimitExceeded: Rate Limit Exceeded")
    [variant] = (await user.post(post_id))["variants"]
    ours = "it may be tried again only after it is too late to send it"
    assert variant["failure"] == f"{entry['network_message']} ({ours})"
    assert "too much" not in {record["value"]["text"] for record in bluesky_network.records(channel.did)}
