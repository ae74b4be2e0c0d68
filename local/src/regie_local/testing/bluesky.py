"""The users of a real Bluesky network on the loopback, and a proxy before it on which answers can be lost."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

import httpx2
from joserfc import jwt
from joserfc.jwk import OctKey

from regie_local.processes import free_port

JWT_SECRET = secrets.token_hex(16)  # signs the sessions of the servers, and of the tests that need an expired one

Record = dict[str, Any]
"""A record as the server lists it: `uri`, `cid` and `value`."""


class BlueskyAccount(NamedTuple):
    """An account with an app password, as a person would give them to Régie."""

    identifier: str
    password: str
    did: str


class BlueskyNetwork:
    """A directory, a personal data server (PDS), an AppView that follows it, and a second PDS with rate limits on."""

    def __init__(self, endpoints: Mapping[str, str]) -> None:
        self.pds_url = endpoints["pds_url"]
        self.limited_pds_url = endpoints["limited_pds_url"]
        self.appview_url = endpoints["appview_url"]
        self.proxy_port = free_port()
        self._client = httpx2.Client(timeout=30)
        self._tokens: dict[str, str] = {}
        self._servers: dict[str, str] = {}

    def create_account(self, handle: str, *, limited: bool = False) -> BlueskyAccount:
        """Makes an account (a handle such as `alice.test`) on the PDS, or on the one with rate limits."""
        server = self.limited_pds_url if limited else self.pds_url
        new = {"handle": handle, "email": f"{handle}@example.com", "password": "a-person-types-this"}
        made = self._call("POST", server, "com.atproto.server.createAccount", json=new)
        did = str(made["did"])
        self._tokens[did], self._servers[did] = str(made["accessJwt"]), server
        app = self.call_as(did, "POST", "com.atproto.server.createAppPassword", json={"name": "Regie"})
        return BlueskyAccount(handle, str(app["password"]), did)

    def call_as(self, did: str, method: str, name: str, **request: object) -> dict[str, object]:
        """Calls the account's PDS in its name, beside the code under test."""
        return self._call(method, self._servers[did], name, token=self._tokens[did], **request)

    def like(self, did: str, uri: str, cid: str) -> None:
        self._react(did, "app.bsky.feed.like", {"subject": {"uri": uri, "cid": cid}})

    def repost(self, did: str, uri: str, cid: str) -> None:
        self._react(did, "app.bsky.feed.repost", {"subject": {"uri": uri, "cid": cid}})

    def reply(self, did: str, uri: str, cid: str, text: str) -> None:
        post = {"uri": uri, "cid": cid}
        self._react(did, "app.bsky.feed.post", {"text": text, "reply": {"root": post, "parent": post}})

    def records(self, did: str, collection: str = "app.bsky.feed.post") -> list[Record]:
        """Returns the records of the account's repository, newest first."""
        params = {"repo": did, "collection": collection, "limit": "100"}
        found = self._call("GET", self._servers[did], "com.atproto.repo.listRecords", params=params)["records"]
        assert isinstance(found, list)
        return found

    def spend_write_budget(self, did: str) -> None:
        """Uses up the hourly write budget of an account of the limited PDS: 5000 points, 600 of them at a time."""
        like: dict[str, object] = {"$type": "app.bsky.feed.like", "createdAt": "2026-03-01T12:00:00Z"}
        like["subject"] = {"uri": "at://did:plc:nobody/app.bsky.feed.post/3k2a4b6c8d2eo", "cid": "bafyreib2rxk3rh6kzwq"}
        write = {"$type": "com.atproto.repo.applyWrites#create", "collection": "app.bsky.feed.like", "value": like}
        body = {"repo": did, "validate": False, "writes": [write] * 200}
        url = f"{self._servers[did]}/xrpc/com.atproto.repo.applyWrites"
        headers = {"Authorization": f"Bearer {self._tokens[did]}"}
        statuses = [self._client.post(url, json=body, headers=headers).status_code for _ in range(9)]
        assert statuses == [200] * 8 + [429]

    def expired_token(self, did: str) -> str:
        """Returns an access token that was good until a minute ago."""
        now = int(datetime.now(UTC).timestamp())
        claims: dict[str, object] = {"scope": "com.atproto.appPass", "sub": did, "aud": "did:web:localhost"}
        claims |= {"iat": now - 7260, "exp": now - 60}
        return jwt.encode({"alg": "HS256", "typ": "at+jwt"}, claims, OctKey.import_key(JWT_SECRET))

    def close(self) -> None:
        self._client.close()

    def _react(self, did: str, collection: str, record: Mapping[str, object]) -> None:
        whole = {"$type": collection, "createdAt": datetime.now(UTC).isoformat(), **record}
        body = {"repo": did, "collection": collection, "record": whole}
        self.call_as(did, "POST", "com.atproto.repo.createRecord", json=body)

    def _call(self, method: str, server: str, name: str, *, token: str = "", **request: object) -> dict[str, object]:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        response = self._client.request(method, f"{server}/xrpc/{name}", headers=headers, **request)  # type: ignore[arg-type]
        assert response.is_success, f"{name} answered {response.status_code}: {response.text}"
        body = response.json()
        assert isinstance(body, dict)
        return body


class BlueskyProxy:
    """Stands before the PDS, writes every call down, and can keep an answer back or hand out a worn-out session."""

    def __init__(self, network: BlueskyNetwork) -> None:
        self.calls: list[tuple[str, int, bytes]] = []
        """The method, the status that the PDS answered, and the body that was sent."""
        self.expire_sessions = False
        """True makes each login return an expired access token beside a good refresh token."""
        self.kept_back = threading.Event()
        """Set when the PDS has done the call of `keep_back` and its answer is withheld."""
        self._network = network
        self._keep_back = ""
        self._let_go = threading.Event()
        self._client = httpx2.Client(base_url=network.pds_url, timeout=30)
        self._http = ThreadingHTTPServer(("127.0.0.1", network.proxy_port), _forwarding(self))
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def keep_back(self, method: str) -> None:
        """Answers the next call of this method never: `let_go` hangs up instead."""
        self._keep_back = method

    def let_go(self) -> None:
        """Closes the connections that wait for a withheld answer."""
        self._let_go.set()

    def calls_of(self, method: str) -> list[tuple[int, bytes]]:
        """Returns the status and the sent body of every call of a method."""
        return [(status, body) for name, status, body in self.calls if name == method]

    def forward(self, http_method: str, path: str, headers: Message, body: bytes) -> httpx2.Response | None:
        """Returns the answer of the PDS, or None where it is to be kept back."""
        passed = {name: str(headers[name]) for name in ("Authorization", "Content-Type") if name in headers}
        answer = self._client.request(http_method, path, headers=passed, content=body)
        method = path.partition("?")[0].rpartition("/")[2]
        self.calls.append((method, answer.status_code, body))
        if method == self._keep_back:
            self._keep_back = ""
            self.kept_back.set()
            self._let_go.wait(60)
            return None
        return self._as_home(answer) if method == "com.atproto.server.createSession" else answer

    def close(self) -> None:
        self._let_go.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()
        self._client.close()

    def _as_home(self, answer: httpx2.Response) -> httpx2.Response:
        """Leaves out where the account really lives, so that its calls go on coming here."""
        session = {name: value for name, value in answer.json().items() if name != "didDoc"}
        if self.expire_sessions:
            session["accessJwt"] = self._network.expired_token(session["did"])
        return httpx2.Response(answer.status_code, json=session)


def _forwarding(proxy: BlueskyProxy) -> type[BaseHTTPRequestHandler]:
    class Forwarding(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # the standard library's name
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            answer = proxy.forward(self.command, self.path, self.headers, body)
            if answer is None:
                return
            self.send_response(answer.status_code)
            self.send_header("Content-Type", answer.headers["content-type"])
            self.send_header("Content-Length", str(len(answer.content)))
            self.end_headers()
            self.wfile.write(answer.content)

        do_POST = do_GET  # noqa: N815  # the standard library's name

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the standard library's name
            """Logs nothing: the calls are recorded."""

    return Forwarding
