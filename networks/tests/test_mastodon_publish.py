"""Connecting, reviewing and publishing on Mastodon, and the meaning of each refusal."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import timedelta

import httpx2
import pytest
from regie_networks.contract import Connector
from regie_networks.draft import Remote
from regie_networks.errors import FailureKind, OutcomeUnknown, Refused, Unacceptable
from regie_networks.mastodon.testing.drafts import (
    answering,
    discard,
    draft,
    instance,
    unreachable,
)
from regie_networks.mastodon.testing.server import TOKEN, URL, FakeMastodon, Respond

STATUSES = "/api/v1/statuses"
SOURCE = r"/api/v1/statuses/\d+/source"
OWN = "/api/v1/accounts/7/statuses"


async def test_a_token_names_its_account_with_the_domain_of_the_server(
    server: FakeMastodon, mastodon: Connector
) -> None:
    server.instances["/api/v2/instance"] = instance(max_characters=5000)
    connection = await mastodon.connect(f"{URL}/@ana", {"access_token": f" Bearer {TOKEN}\n"})
    assert connection.server_url == URL
    assert (connection.remote_id, connection.handle) == ("7", "ana@example.org")
    assert connection.secrets == {"access_token": TOKEN}


async def test_a_server_that_says_nothing_of_itself_is_named_by_its_host(mastodon: Connector) -> None:
    assert (await mastodon.connect(URL, {"access_token": TOKEN})).handle == "ana@social.example"


@pytest.mark.parametrize("token", ["", "a-bad-token"])
async def test_a_wrong_token_is_refused(mastodon: Connector, token: str) -> None:
    with pytest.raises(Refused) as refused:
        await mastodon.connect(URL, {"access_token": token})
    assert refused.value.kind is FailureKind.AUTH_EXPIRED


async def test_a_wrong_token_is_refused_by_a_server_that_says_it_in_html(
    server: FakeMastodon, mastodon: Connector
) -> None:
    server.fail("GET", ".*verify_credentials", answering(400, html="<h1>Bad request</h1>"))
    with pytest.raises(Refused) as refused:
        await mastodon.connect(URL, {"access_token": TOKEN})
    assert refused.value.kind is FailureKind.AUTH_EXPIRED


async def test_a_web_page_is_no_mastodon(server: FakeMastodon, mastodon: Connector) -> None:
    server.fail("GET", ".*verify_credentials", answering(200, html="<h1>Welcome</h1>"))
    with pytest.raises(Refused) as refused:
        await mastodon.connect(URL, {"access_token": TOKEN})
    assert refused.value.kind is FailureKind.UNSUPPORTED


async def test_without_a_server_address_there_is_no_call(server: FakeMastodon, mastodon: Connector) -> None:
    with pytest.raises(Unacceptable, match="server_url") as refused:
        await mastodon.connect("", {"access_token": TOKEN})
    assert refused.value.kind is FailureKind.UNSUPPORTED
    assert server.calls == []


@pytest.mark.parametrize("token", ["tok\u00e9n", "one\r\ntwo", "one two", "Bearer ", "\u2066token\u2069"])
async def test_a_token_that_no_header_can_carry_is_refused_without_a_call(
    server: FakeMastodon, mastodon: Connector, token: str
) -> None:
    with pytest.raises(Unacceptable, match="access_token") as refused:
        await mastodon.connect(URL, {"access_token": token})
    assert refused.value.kind is FailureKind.AUTH_EXPIRED
    assert server.calls == []


async def test_a_server_reached_by_another_of_its_names_is_the_same_one(
    server: FakeMastodon, mastodon: Connector
) -> None:
    reached = [await mastodon.connect(url, {"access_token": TOKEN}) for url in (URL, "https://www.social.example")]
    assert {(one.server_url, one.identity) for one in reached} == {(URL, f"{URL}#7")}


@pytest.mark.parametrize(
    "claimed", [answering(401), answering(200, json={"id": "8", "url": f"{URL}/@ana"}), unreachable]
)
async def test_a_server_cannot_claim_the_accounts_of_another(
    server: FakeMastodon, mastodon: Connector, claimed: Respond
) -> None:
    server.fail("GET", ".*verify_credentials", lambda _: httpx2.Response(200, json=server.account()))
    server.fail("GET", ".*verify_credentials", claimed)
    connection = await mastodon.connect("https://evil.example", {"access_token": TOKEN})
    assert (connection.server_url, connection.identity) == ("https://evil.example", "https://evil.example#7")


async def test_a_server_that_fails_at_the_newer_description_is_asked_for_the_older(
    server: FakeMastodon, mastodon: Connector
) -> None:
    server.fail("GET", "/api/v2/instance", answering(500, html="<h1>Oops</h1>"))
    server.instances["/api/v1/instance"] = {"uri": "example.org"}
    assert (await mastodon.connect(URL, {"access_token": TOKEN})).handle == "ana@example.org"


async def test_a_server_that_cannot_describe_itself_is_connected_all_the_same(
    server: FakeMastodon, mastodon: Connector
) -> None:
    server.fail("GET", "/api/v2/instance", answering(500, html="<h1>Oops</h1>"))
    server.fail("GET", "/api/v1/instance", answering(502, html="<h1>Oops</h1>"))
    assert (await mastodon.connect(URL, {"access_token": TOKEN})).handle == "ana@social.example"


async def test_a_status_says_its_visibility_language_and_key(server: FakeMastodon, mastodon: Connector) -> None:
    remote = await mastodon.publish(draft("Hallo"), 0)
    assert remote == Remote("1000", f"{URL}/@ana/1000")
    (call,) = server.calls
    assert json.loads(call.content) == {"status": "Hallo", "visibility": "public", "language": "de"}
    assert call.headers["Idempotency-Key"] == "key-0"


async def test_a_thread_replies_segment_to_segment(server: FakeMastodon, mastodon: Connector) -> None:
    thread = draft("eins", "zwei", "drei", visibility="unlisted")
    for index in range(3):
        remote = await mastodon.publish(thread, index)
        assert isinstance(remote, Remote)
        thread.remotes.append(remote)
    assert [status["in_reply_to_id"] for status in server.statuses] == [None, "1000", "1001"]
    assert {status["visibility"] for status in server.statuses} == {"unlisted"}


async def test_a_status_without_a_page_is_opened_at_its_uri(server: FakeMastodon, mastodon: Connector) -> None:
    server.fail("POST", STATUSES, answering(200, json={"id": "5", "url": None, "uri": "https://x.example/5"}))
    assert await mastodon.publish(draft("Hallo"), 0) == Remote("5", "https://x.example/5")


async def test_a_missing_status_to_reply_to_is_the_contents_fault(mastodon: Connector) -> None:
    with pytest.raises(Refused) as refused:
        await mastodon.publish(draft("eins", "zwei", remotes=[Remote("404", "")]), 1)
    assert refused.value.kind is FailureKind.CONTENT_REJECTED


async def test_a_status_of_pictures_alone_has_no_empty_text(server: FakeMastodon, mastodon: Connector) -> None:
    pictured = draft("", pictures=1)
    await mastodon.prepare(pictured, discard)
    await mastodon.publish(pictured, 0)
    (call,) = server.asked("POST", STATUSES)
    assert "status" not in json.loads(call.content)


async def test_a_missing_picture_is_the_medias_fault(server: FakeMastodon, mastodon: Connector) -> None:
    pictured = draft("Bild", pictures=1)
    await mastodon.prepare(pictured, discard)
    server.fail("POST", STATUSES, answering(404, html="<h1>Not found</h1>"))
    with pytest.raises(Refused) as refused:
        await mastodon.publish(pictured, 0)
    assert refused.value.kind is FailureKind.MEDIA_REJECTED


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({"X-RateLimit-Reset": "2026-03-01T12:03:20.000000Z"}, timedelta(seconds=200)),
        ({}, timedelta(minutes=5)),
    ],
)
async def test_a_rate_limit_says_when_to_come_back(
    server: FakeMastodon, mastodon: Connector, headers: Mapping[str, str], wait: timedelta
) -> None:
    server.fail("POST", STATUSES, answering(429, headers=headers, json={"error": "Zu viele Anfragen"}))
    with pytest.raises(Refused) as refused:
        await mastodon.publish(draft("Hallo"), 0)
    assert (refused.value.kind, refused.value.retry_after) == (FailureKind.RATE_LIMITED, wait)


@pytest.mark.parametrize(
    "answer",
    [
        answering(200, json={"url": URL}),
        answering(200, json={"id": "9", "scheduled_at": "2026-03-01T13:00:00Z", "params": {}}),
    ],
)
async def test_an_answer_that_proves_nothing_leaves_the_outcome_unknown(
    server: FakeMastodon, mastodon: Connector, answer: Callable[..., httpx2.Response]
) -> None:
    server.fail("POST", STATUSES, answer)
    with pytest.raises(OutcomeUnknown):
        await mastodon.publish(draft("Hallo"), 0)
    assert len(server.calls) == 1


async def test_an_html_400_is_a_bad_token_where_the_token_proves_bad(server: FakeMastodon, mastodon: Connector) -> None:
    for method, path in (("POST", STATUSES), ("GET", ".*verify_credentials")):
        server.fail(method, path, answering(400, html="<h1>Bad request</h1>"))
    with pytest.raises(Refused) as refused:
        await mastodon.publish(draft("Hallo"), 0)
    assert refused.value.kind is FailureKind.AUTH_EXPIRED


async def test_an_html_400_is_the_contents_fault_where_the_token_is_good(
    server: FakeMastodon, mastodon: Connector
) -> None:
    server.fail("POST", STATUSES, answering(400, html="<h1>Bad request</h1>"))
    with pytest.raises(Refused) as refused:
        await mastodon.publish(draft("Hallo"), 0)
    assert refused.value.kind is FailureKind.CONTENT_REJECTED


async def test_a_page_that_forbids_a_status_is_no_verdict_on_a_good_token(
    server: FakeMastodon, mastodon: Connector
) -> None:
    server.fail("POST", STATUSES, answering(403, html="<h1>Attention required</h1>"))
    with pytest.raises(Refused) as refused:
        await mastodon.publish(draft("Hallo"), 0)
    assert refused.value.kind is FailureKind.PLATFORM_ERROR
