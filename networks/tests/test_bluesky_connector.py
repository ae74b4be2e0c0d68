"""The connector's reactions to every response of a server, and of the connection to it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest
from regie_networks.bluesky.connector import BlueskyConnector
from regie_networks.contract import Connector
from regie_networks.draft import Account, Draft, Picture, Remote, Segment
from regie_networks.errors import ConnectorError, FailureKind, NotNamed, NotSent, OutcomeUnknown, Refused
from regie_networks.observation import Observation
from regie_networks.testing.fakes import FakeCredentials, MemoryHandles, alone

COMPOSED = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
KEY = "3k2a4b6c8d2e4"
URI = f"at://did:plc:me/app.bsky.feed.post/{KEY}"
WRITTEN = {"uri": URI, "cid": "bafyreia", "commit": {"cid": "bafyreib", "rev": KEY}}
HTML = b"<html><head><title>Oops</title></head><body>502 Bad Gateway</body></html>"
SESSION = {"accessJwt": "a2", "refreshJwt": "r2", "did": "did:plc:me", "handle": "me.test"}
EXPIRED = httpx2.Response(400, json={"error": "ExpiredToken", "message": "Token has expired"})

Reply = httpx2.Response | Exception


def error(status: int, name: str, **headers: str) -> httpx2.Response:
    return httpx2.Response(status, json={"error": name, "message": f"about {name}"}, headers=headers)


@dataclass
class FakeServer:
    """Answers each method with its replies in order, the last one for ever, and keeps every request."""

    replies: Mapping[str, Sequence[Reply]]
    requests: list[httpx2.Request] = field(default_factory=list)

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        name = request.url.path.removeprefix("/xrpc/")
        earlier = len(self.calls(name))
        self.requests.append(request)
        replies = self.replies.get(name, [error(501, "MethodNotImplemented")])
        reply = replies[min(earlier, len(replies) - 1)]
        if isinstance(reply, Exception):
            raise reply
        return httpx2.Response(reply.status_code, headers=reply.headers, content=reply.content)

    def calls(self, name: str) -> list[httpx2.Request]:
        return [request for request in self.requests if request.url.path == f"/xrpc/{name}"]


def connector_for(server: Callable[[httpx2.Request], httpx2.Response]) -> Connector:
    return BlueskyConnector(httpx2.AsyncClient(transport=httpx2.MockTransport(server)))


def put(*replies: Reply, renewals: Sequence[Reply] = ()) -> tuple[Connector, FakeServer]:
    server = FakeServer(
        {"com.atproto.repo.putRecord": replies, "com.atproto.server.refreshSession": renewals or [error(500, "Oops")]}
    )
    return connector_for(server), server


def account() -> Account:
    secrets = {"access_jwt": "a1", "refresh_jwt": "r1", "did": "did:plc:me"}
    return Account("https://pds.test", "did:plc:me", "me.test", FakeCredentials(secrets))


def draft(text: str = "text", *pictures: Picture) -> Draft:
    return Draft(account(), [Segment(KEY, text, pictures)], visibility="", language="en", compose_time=COMPOSED)


def picture(media_id: str) -> Picture:
    async def read() -> bytes:
        return media_id.encode()

    return Picture(media_id, "", "image/png", 7, 4, 3, read)


@pytest.mark.parametrize("answer", [WRITTEN, {"uri": URI, "cid": "bafyreia"}])
async def test_a_post_that_was_there_already_is_as_good_as_a_new_one(answer: Mapping[str, object]) -> None:
    connector, server = put(httpx2.Response(200, json=answer))
    remote = await connector.publish(draft(), 0)
    assert json.loads(server.requests[0].content)["swapRecord"] is None
    assert remote == Remote(f"{URI}|bafyreia", f"https://bsky.app/profile/did:plc:me/post/{KEY}")


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (httpx2.Response(403, content=HTML), OutcomeUnknown),
        (httpx2.Response(200, json={"uri": URI}), OutcomeUnknown),
        (httpx2.Response(200, json={**WRITTEN, "uri": URI.replace("did:plc:me", "did:plc:you")}), OutcomeUnknown),
        (httpx2.Response(200, json={**WRITTEN, "uri": URI.replace(KEY, "3another")}), OutcomeUnknown),
        (error(400, "InvalidRequest"), FailureKind.CONTENT_REJECTED),
        (error(400, "BlobNotFound"), FailureKind.MEDIA_REJECTED),
        (error(400, "InvalidSwap"), FailureKind.INTERNAL),
        (error(400, "InvalidToken"), FailureKind.AUTH_EXPIRED),
        (error(401, "AuthMissing"), FailureKind.AUTH_EXPIRED),
        (error(403, "AccountNotFound"), FailureKind.AUTH_EXPIRED),
        (error(400, "AccountTakedown"), FailureKind.AUTH_EXPIRED),
        (httpx2.Response(404, content=HTML), FailureKind.PLATFORM_ERROR),
    ],
)
async def test_what_an_answer_to_a_post_means(reply: Reply, expected: type[ConnectorError] | FailureKind) -> None:
    connector, server = put(reply)
    wanted = Refused if isinstance(expected, FailureKind) else expected
    with pytest.raises(wanted) as raised:
        await connector.publish(draft(), 0)
    assert len(server.requests) == 1
    if isinstance(raised.value, Refused):
        assert (raised.value.kind, raised.value.retry_after) == (expected, None)


async def test_a_rate_limit_without_a_time_lasts_a_window() -> None:
    connector, _ = put(error(429, "RateLimitExceeded"))
    with pytest.raises(Refused) as refused:
        await connector.publish(draft(), 0)
    assert (refused.value.kind, refused.value.retry_after) == (FailureKind.RATE_LIMITED, timedelta(minutes=5))


async def test_an_expired_session_is_renewed_and_the_call_made_once_more() -> None:
    connector, server = put(EXPIRED, httpx2.Response(200, json=WRITTEN), renewals=[httpx2.Response(200, json=SESSION)])
    content = draft()
    assert isinstance(await connector.publish(content, 0), Remote)
    assert [request.headers["authorization"] for request in server.requests] == ["Bearer a1", "Bearer r1", "Bearer a2"]
    assert content.account.credentials.secrets == {"access_jwt": "a2", "refresh_jwt": "r2", "did": "did:plc:me"}


async def test_a_session_that_expires_again_at_once_is_given_up() -> None:
    connector, server = put(EXPIRED, renewals=[httpx2.Response(200, json=SESSION)])
    with pytest.raises(Refused) as refused:
        await connector.publish(draft(), 0)
    assert refused.value.kind is FailureKind.AUTH_EXPIRED
    assert len(server.requests) == 3


async def test_a_renewed_session_of_another_account_is_not_used() -> None:
    other = SESSION | {"did": "did:plc:other"}
    connector, server = put(EXPIRED, renewals=[httpx2.Response(200, json=other)])
    with pytest.raises(Refused) as refused:
        await connector.publish(draft(), 0)
    assert refused.value.kind is FailureKind.AUTH_EXPIRED
    assert [request.headers["authorization"] for request in server.requests] == ["Bearer a1", "Bearer r1"]


@pytest.mark.parametrize("reply", [httpx2.ReadTimeout("slow"), error(503, "Busy"), httpx2.Response(200, content=HTML)])
async def test_a_renewal_that_fails_leaves_the_post_known_as_not_sent(reply: Reply) -> None:
    connector, server = put(EXPIRED, renewals=[reply])
    with pytest.raises(NotSent):
        await connector.publish(draft(), 0)
    assert len(server.calls("com.atproto.repo.putRecord")) == 1


@pytest.mark.parametrize("reply", [httpx2.Response(403, content=HTML), httpx2.Response(400, content=HTML)])
async def test_a_page_in_the_place_of_a_renewal_proves_nothing_of_the_session(reply: Reply) -> None:
    connector, _ = put(EXPIRED, renewals=[reply])
    with pytest.raises(NotSent):
        await connector.publish(draft(), 0)


@pytest.mark.parametrize(
    ("identifier", "sent"),
    [
        ("me.test", "me.test"),
        (" @Me.Test\n", "me.test"),
        ("at://me.test", "me.test"),
        ("at://did:plc:Me/app.bsky.feed.post/3k2", "did:plc:Me"),
        ("https://bsky.app/profile/me.test", "me.test"),
        ("bsky.app/profile/me.test/post/3k2a4b6c8d2e4?ref=x", "me.test"),
        ("\u2068@me.test\u2069.", "me.test"),
        ("Me@Mail.example", "Me@Mail.example"),
    ],
)
@pytest.mark.parametrize("password", ["abcd-ef23-ghij-kl45", " abcd-ef23-ghij-kl45\u200b", "abcd ef23 ghij kl45"])
async def test_credentials_are_taken_as_people_paste_them(identifier: str, sent: str, password: str) -> None:
    server = FakeServer({"com.atproto.server.createSession": [httpx2.Response(200, json=SESSION)]})
    await connector_for(server).connect("", {"identifier": identifier, "app_password": password})
    (login,) = server.calls("com.atproto.server.createSession")
    assert json.loads(login.content) == {"identifier": sent, "password": "abcd-ef23-ghij-kl45"}


@pytest.mark.parametrize("reply", [EXPIRED, error(400, "InvalidToken"), error(401, "AuthenticationRequired")])
async def test_a_renewal_that_is_refused_needs_a_person(reply: Reply) -> None:
    connector, _ = put(EXPIRED, renewals=[reply])
    with pytest.raises(Refused, match="connect the channel again") as refused:
        await connector.publish(draft(), 0)
    assert refused.value.kind is FailureKind.AUTH_EXPIRED


@pytest.mark.parametrize(
    "reply",
    [
        error(400, "InvalidRequest"),
        error(400, "RepoDeactivated"),
        error(404, "RecordNotFound"),
        httpx2.Response(200, json={"value": {}}),
    ],
)
async def test_find_says_so_where_it_cannot_tell(reply: Reply) -> None:
    with pytest.raises(ConnectorError):
        await connector_for(FakeServer({"com.atproto.repo.getRecord": [reply]})).find(draft(), 0, alone())


def record(key: str = KEY, **members: object) -> httpx2.Response:
    uri = f"at://did:plc:me/app.bsky.feed.post/{key}"
    return httpx2.Response(200, json={"uri": uri, "cid": "bafyreia", "value": {"text": "text", **members}})


ADDRESSES = [
    f"https://bsky.app/profile/me.test/post/{KEY}",
    f"https://bsky.app/profile/ME.test/post/{KEY}/?ref=x#y",
    f"https://bsky.app/profile/did:plc:me/post/{KEY}",
    f"https://bsky.app/profile/did%3Aplc%3Ame/post/{KEY}",
    f"https://other.client/profile/me.test/post/{KEY}",
]


@pytest.mark.parametrize("url", ADDRESSES)
async def test_the_post_behind_an_address_is_the_repositorys_own(url: str) -> None:
    connector = connector_for(FakeServer({"com.atproto.repo.getRecord": [record()]}))
    named = await connector.named(draft(), 0, url, alone())
    assert named == Remote(f"{URI}|bafyreia", f"https://bsky.app/profile/did:plc:me/post/{KEY}")


@pytest.mark.parametrize(
    ("url", "reply", "why"),
    [
        (f"https://bsky.app/profile/you.test/post/{KEY}", record(), "bsky.app/profile/me.test"),
        ("https://bsky.app/profile/me.test", record(), "bsky.app/profile/me.test"),
        (f"https://bsky.app/profile/me.test/post/{KEY}/photo/1", record(), "bsky.app/profile/me.test"),
        (ADDRESSES[0], error(400, "RecordNotFound"), "no post at this address"),
        (ADDRESSES[0], record(text="another"), "another text"),
        (ADDRESSES[0], record(reply={"parent": {"uri": URI}}), "another place"),
    ],
)
async def test_an_address_of_another_post_names_none(url: str, reply: Reply, why: str) -> None:
    with pytest.raises(NotNamed, match=why):
        await connector_for(FakeServer({"com.atproto.repo.getRecord": [reply]})).named(draft(), 0, url, alone())


def uploads(*replies: Reply, resolved: Sequence[Reply] = ()) -> tuple[Connector, FakeServer]:
    names = {"com.atproto.repo.uploadBlob": replies, "com.atproto.identity.resolveHandle": resolved}
    server = FakeServer({name: answers for name, answers in names.items() if answers})
    return connector_for(server), server


BLOB = httpx2.Response(200, json={"blob": {"$type": "blob", "mimeType": "image/png", "size": 7}})


async def test_preparation_goes_on_where_it_was_broken_off() -> None:
    connector, server = uploads(BLOB, httpx2.RemoteProtocolError("dropped"), BLOB)
    content, handles = draft("", picture("media_1"), picture("media_2")), MemoryHandles()
    with pytest.raises(OutcomeUnknown):
        await connector.prepare(content, handles)
    assert connector.needs_preparation(content)
    await connector.prepare(content, handles)
    assert not connector.needs_preparation(content)
    await connector.prepare(content, handles)
    assert [request.content for request in server.requests] == [b"media_1", b"media_2", b"media_2"]
    assert handles.saved == content.handles
    assert server.requests[0].headers["content-type"] == "image/png"


@pytest.mark.parametrize("reply", [httpx2.Response(413), error(400, "BlobTooLarge"), error(400, "InvalidMimeType")])
async def test_a_picture_that_the_server_does_not_want_is_the_pictures_fault(reply: Reply) -> None:
    connector, _ = uploads(reply)
    with pytest.raises(Refused) as refused:
        await connector.prepare(draft("", picture("media_1")), MemoryHandles())
    assert refused.value.kind is FailureKind.MEDIA_REJECTED


@pytest.mark.parametrize("name", ["InvalidRequest", "HandleNotFound"])
async def test_who_is_mentioned_is_asked_once_and_remembered(name: str) -> None:
    found = httpx2.Response(200, json={"did": "did:plc:alice"})
    connector, server = uploads(resolved=[found, error(400, name)])
    content, handles = draft("@alice.test @nobody.test @alice.test"), MemoryHandles()
    await connector.prepare(content, handles)
    assert handles.saved == {"mention:alice.test": "did:plc:alice", "mention:nobody.test": ""}
    assert not connector.needs_preparation(content)
    assert len(server.requests) == 2


async def test_a_mention_waits_for_a_server_that_cannot_resolve_it_now() -> None:
    connector, _ = uploads(resolved=[error(502, "UpstreamFailure")])
    content = draft("@alice.test")
    with pytest.raises(OutcomeUnknown):
        await connector.prepare(content, MemoryHandles())
    assert connector.needs_preparation(content)


def logins(*replies: Reply) -> Connector:
    profile = httpx2.Response(200, json={"value": {"displayName": "Me, myself"}})
    names = {"com.atproto.server.createSession": replies, "com.atproto.repo.getRecord": [profile]}
    return connector_for(FakeServer(names))


def document(endpoint: str) -> dict[str, Any]:
    return {"service": [None, {"id": "#atproto_labeler"}, {"id": "#atproto_pds", "serviceEndpoint": endpoint}]}


CREDENTIALS = {"identifier": "@me.test", "app_password": "abcd-efgh-ijkl-mnop"}


@pytest.mark.parametrize(
    ("given_server", "did_document", "home"),
    [
        ("", document("https://home.test/"), "https://home.test"),
        ("", None, "https://bsky.social"),
        ("https://entry.test", document("http://home.test"), "https://entry.test"),
        ("https://bsky.app", None, "https://bsky.social"),
        ("https://entry.test/", document("ftp://home.test"), "https://entry.test"),
        ("http://localhost:2583", document("http://localhost:2583"), "http://localhost:2583"),
        ("https://entry.test", {"service": "odd"}, "https://entry.test"),
        ("https://entry.test", document("https://[broken"), "https://entry.test"),
    ],
)
async def test_an_account_lives_where_its_document_says(given_server: str, did_document: object, home: str) -> None:
    session = httpx2.Response(200, json={**SESSION, "didDoc": did_document})
    connection = await logins(session).connect(given_server, CREDENTIALS)
    assert connection.server_url == home
    assert (connection.remote_id, connection.handle) == ("did:plc:me", "me.test")
    assert connection.display_name == "Me, myself"
    assert connection.secrets == {"access_jwt": "a2", "refresh_jwt": "r2", "did": "did:plc:me"}
    assert connection.identity == "did:plc:me"


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (error(401, "AuthenticationRequired"), FailureKind.AUTH_EXPIRED),
        (error(401, "AuthFactorTokenRequired"), FailureKind.AUTH_EXPIRED),
        (error(400, "InvalidRequest"), FailureKind.AUTH_EXPIRED),
        (httpx2.Response(200, json={**SESSION, "active": False, "status": "takendown"}), FailureKind.AUTH_EXPIRED),
        (error(429, "RateLimitExceeded"), FailureKind.RATE_LIMITED),
        (httpx2.Response(404, content=HTML), FailureKind.UNSUPPORTED),
        (httpx2.Response(403, content=HTML), FailureKind.UNSUPPORTED),
        (httpx2.Response(200, content=HTML), FailureKind.UNSUPPORTED),
        (httpx2.Response(301, headers={"Location": "https://other.test"}), FailureKind.UNSUPPORTED),
    ],
)
async def test_why_an_account_cannot_be_connected(reply: Reply, kind: FailureKind) -> None:
    with pytest.raises(Refused) as refused:
        await logins(reply).connect("", CREDENTIALS)
    assert refused.value.kind is kind


async def test_credentials_that_are_left_out_are_asked_for() -> None:
    with pytest.raises(Refused, match=r"`identifier`.*`app_password`"):
        await logins(error(500, "never called")).connect("", {"identifier": "me.test"})


def post(uri: str, **counts: int) -> dict[str, object]:
    return {"uri": uri, "cid": "bafyreia", **counts}


async def test_numbers_are_read_with_those_who_liked() -> None:
    liked, quiet, gone = (Remote(f"{URI[:-1]}{n}|bafyreia", "") for n in "234")
    posts = [post(f"{URI[:-1]}2", likeCount=7, repostCount=1, quoteCount=2), post(f"{URI[:-1]}3"), post("at://other")]
    likes = {"likes": [{"actor": {"did": "did:plc:fan", "handle": "fan.test"}}, {"actor": None}]}
    server = FakeServer(
        {
            "app.bsky.feed.getPosts": [httpx2.Response(200, json={"posts": posts})],
            "app.bsky.feed.getLikes": [httpx2.Response(200, json=likes)],
        }
    )
    observations = await connector_for(server).observe(account(), [liked, quiet, gone])
    read = [observation for observation in observations if isinstance(observation, Observation)]
    assert len(read) == len(observations)
    assert [(observation.remote_id, dict(observation.values)) for observation in read] == [
        (liked.id, {"likes": 7, "replies": 0, "reposts": 1, "quotes": 2}),
        (quiet.id, {"likes": 0, "replies": 0, "reposts": 0, "quotes": 0}),
    ]
    assert [(one.actor_id, one.actor_handle, one.kind) for one in read[0].engagements] == [
        ("did:plc:fan", "fan.test", "like")
    ]
    assert server.requests[0].url.params.get_list("uris") == [f"{URI[:-1]}{n}" for n in "234"]
    assert len(server.calls("app.bsky.feed.getLikes")) == 1


async def test_an_appview_that_is_away_is_asked_again_later() -> None:
    server = FakeServer({"app.bsky.feed.getPosts": [error(502, "UpstreamFailure")]})
    with pytest.raises(OutcomeUnknown):
        await connector_for(server).observe(account(), [Remote(f"{URI}|bafyreia", "")])
