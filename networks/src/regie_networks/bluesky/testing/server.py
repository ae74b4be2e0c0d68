"""A PDS with its AppView in memory, for tests: a repository of records, sessions, blobs and likes.

Faithful where it matters for once-only: a key holds one record, the same bytes again change nothing, other bytes with
`swapRecord: null` are refused, and the errors are named in answers of status 400.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx2

DID = "did:plc:me"
HANDLE = "me.test"
URL = "https://pds.test"
PASSWORD = "abcd-efgh-ijkl-mnop"  # noqa: S105 - a stand-in server takes it
POSTS = "app.bsky.feed.post"


def error(status: int, name: str, **headers: str) -> httpx2.Response:
    """Returns a refusal as the protocol names it."""
    return httpx2.Response(status, json={"error": name, "message": f"about {name}"}, headers=headers)


@dataclass
class FakePds:
    """One account's repository. `records` are its posts by key, in order of creation."""

    records: dict[str, dict[str, Any]] = field(default_factory=dict)
    blobs: list[bytes] = field(default_factory=list)
    access_token: str = "access-1"  # noqa: S105
    refresh_token: str = "refresh-1"  # noqa: S105
    expired: set[str] = field(default_factory=set)

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        name = request.url.path.removeprefix("/xrpc/")
        if name in _OPEN:
            return _OPEN[name](self, request)
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        if token in self.expired:
            return error(400, "ExpiredToken")
        if token != self.access_token:
            return error(400, "InvalidToken")
        answer = _SIGNED.get(name)
        return error(501, "MethodNotImplemented") if answer is None else answer(self, request)

    def transport(self) -> httpx2.MockTransport:
        return httpx2.MockTransport(self)

    def texts(self) -> list[str]:
        return [str(record["text"]) for record in self.records.values()]

    def _create_session(self, request: httpx2.Request) -> httpx2.Response:
        body = json.loads(request.content)
        if (body.get("identifier"), body.get("password")) != (HANDLE, PASSWORD):
            return error(401, "AuthenticationRequired")
        return self._session()

    def _refresh_session(self, request: httpx2.Request) -> httpx2.Response:
        if request.headers.get("authorization") != f"Bearer {self.refresh_token}":
            return error(400, "ExpiredToken")
        number = int(self.access_token.rpartition("-")[2]) + 1
        self.access_token, self.refresh_token = f"access-{number}", f"refresh-{number}"
        return self._session()

    def _session(self) -> httpx2.Response:
        tokens = {"accessJwt": self.access_token, "refreshJwt": self.refresh_token}
        return httpx2.Response(200, json={**tokens, "did": DID, "handle": HANDLE})

    def _get_record(self, request: httpx2.Request) -> httpx2.Response:
        query = request.url.params
        record = self.records.get(query["rkey"]) if query["collection"] == POSTS else None
        if record is None:
            return error(400, "RecordNotFound")
        return httpx2.Response(200, json={**_ref(query["rkey"], record), "value": record})

    def _put_record(self, request: httpx2.Request) -> httpx2.Response:
        body = json.loads(request.content)
        key, record = body["rkey"], body["record"]
        existing = self.records.get(key)
        if existing is not None and existing != record:
            return error(400, "InvalidSwap")
        self.records[key] = record
        commit = {} if existing is not None else {"commit": {"cid": "bafycommit", "rev": key}}
        return httpx2.Response(200, json={**_ref(key, record), **commit})

    def _delete_record(self, request: httpx2.Request) -> httpx2.Response:
        self.records.pop(json.loads(request.content)["rkey"], None)
        return httpx2.Response(200, json={})

    def _get_profile(self, request: httpx2.Request) -> httpx2.Response:
        counts = {"followersCount": 12, "followsCount": 3, "postsCount": len(self.records)}
        return httpx2.Response(200, json={"did": request.url.params["actor"], "handle": HANDLE, **counts})

    def _get_post_thread(self, request: httpx2.Request) -> httpx2.Response:
        key = request.url.params["uri"].rpartition("/")[2]
        if key not in self.records:
            return error(400, "NotFound")
        return httpx2.Response(200, json={"thread": self._thread(key)})

    def _thread(self, key: str) -> dict[str, Any]:
        uri = _ref(key, self.records[key])["uri"]
        below = [each for each, record in self.records.items() if _parent(record) == uri]
        return {"post": _post_view(key, self.records[key]), "replies": [self._thread(each) for each in below]}

    def _upload_blob(self, request: httpx2.Request) -> httpx2.Response:
        self.blobs.append(request.content)
        link = {"$link": hashlib.sha256(request.content).hexdigest()}
        blob = {"$type": "blob", "ref": link, "mimeType": "image/png", "size": len(request.content)}
        return httpx2.Response(200, json={"blob": blob})

    def _resolve_handle(self, request: httpx2.Request) -> httpx2.Response:
        return error(400, "HandleNotFound")

    def _get_posts(self, request: httpx2.Request) -> httpx2.Response:
        keys = [uri.rpartition("/")[2] for uri in request.url.params.get_list("uris")]
        posts = [_post_view(key, self.records[key]) for key in keys if key in self.records]
        return httpx2.Response(200, json={"posts": posts})


def _ref(key: str, record: Mapping[str, Any]) -> dict[str, str]:
    cid = hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()
    return {"uri": f"at://{DID}/{POSTS}/{key}", "cid": f"bafy{cid[:40]}"}


def _parent(record: Mapping[str, Any]) -> str:
    return str(record["reply"]["parent"]["uri"]) if "reply" in record else ""


def _post_view(key: str, record: Mapping[str, Any]) -> dict[str, Any]:
    author = {"did": DID, "handle": HANDLE}
    counts = {"likeCount": 0, "replyCount": 0, "repostCount": 0, "quoteCount": 0}
    return {**_ref(key, record), "author": author, "record": record, "indexedAt": record["createdAt"], **counts}


_Answer = Callable[[FakePds, httpx2.Request], httpx2.Response]
_OPEN: Mapping[str, _Answer] = {
    "com.atproto.server.createSession": FakePds._create_session,  # noqa: SLF001
    "com.atproto.server.refreshSession": FakePds._refresh_session,  # noqa: SLF001
    "com.atproto.repo.getRecord": FakePds._get_record,  # noqa: SLF001
}
_SIGNED: Mapping[str, _Answer] = {
    "com.atproto.repo.putRecord": FakePds._put_record,  # noqa: SLF001
    "com.atproto.repo.deleteRecord": FakePds._delete_record,  # noqa: SLF001
    "app.bsky.actor.getProfile": FakePds._get_profile,  # noqa: SLF001
    "app.bsky.feed.getPostThread": FakePds._get_post_thread,  # noqa: SLF001
    "com.atproto.repo.uploadBlob": FakePds._upload_blob,  # noqa: SLF001
    "com.atproto.identity.resolveHandle": FakePds._resolve_handle,  # noqa: SLF001
    "app.bsky.feed.getPosts": FakePds._get_posts,  # noqa: SLF001
}
