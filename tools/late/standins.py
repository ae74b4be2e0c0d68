"""Stand-ins of one network for each class. Their own tables of posts by key are the oracle."""

from __future__ import annotations

import asyncio
import json
import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Protocol

import httpx2
from regie_networks.mastodon.testing.server import TOKEN, FakeMastodon

FOREIGN = 300
"""Statuses that somebody else wrote to each account in the last ten minutes."""
WORDS = (
    "today we open the new library in the old town hall and everybody is welcome to come and read with us",
    "the train to the coast leaves an hour later because of works near the bridge so please mind the signs",
    "our orchestra looks for violins and one tuba rehearsals are on tuesdays in the school behind the church",
    "thanks to all who helped with the harvest there is soup at noon and music until late in the evening",
)


@dataclass(frozen=True, slots=True)
class Row:
    """A visible post, with the key under which it was asked for."""

    key: str
    id: str


class StandIn(Protocol):
    """A server behind a proxy."""

    rows: list[Row]

    def key_of(self, request: httpx2.Request) -> str:
        """Returns the key of a call that would publish, and an empty string for any other."""

    async def handle(self, request: httpx2.Request) -> httpx2.Response:
        """Answers after the effect of the call."""


@dataclass
class BusyMastodon(FakeMastodon):
    """An account of a server of Mastodon's family, on which much is written.

    With `honours` it is Mastodon, which writes a key down only after its post; else GoToSocial, which ignores keys.
    """

    honours: bool = False
    rows: list[Row] = field(default_factory=list)
    stored: dict[str, dict[str, object]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        name = "mastodon/mastodon" if self.honours else "superseriousbusiness/gotosocial"
        self.ignores_keys = True
        self.instances["/api/v2/instance"] = {
            "domain": "late.example",
            "version": "4.3.0" if self.honours else "0.19.1",
            "source_url": f"https://github.com/{name}",
        }
        self.now = datetime.now(UTC) - timedelta(minutes=10)
        for _ in range(FOREIGN):
            self.write_foreign()

    def write_foreign(self) -> None:
        """Writes a status as another program of the account's owner does."""
        self.write(" ".join(random.choices(" ".join(WORDS).split(), k=12)))

    def write(self, text: str, **members: object) -> dict[str, object]:
        return super().write(text, **members)

    def key_of(self, request: httpx2.Request) -> str:
        wanted = request.method == "POST" and request.url.path == "/api/v1/statuses"
        return request.headers.get("Idempotency-Key", "") if wanted else ""

    async def handle(self, request: httpx2.Request) -> httpx2.Response:  # type: ignore[override]
        key = self.key_of(request)
        if not key:
            return self._respond(request)
        if self.honours and key in self.stored:
            return httpx2.Response(200, json=self.stored[key])
        await asyncio.sleep(0.02)  # between the look at its keys and the post, as there
        self.now = max(self.now, datetime.now(UTC) - timedelta(seconds=1))
        response = self._respond(request)
        if response.status_code == httpx2.codes.OK:
            status: dict[str, object] = response.json()
            self.stored[key] = status
            self.rows.append(Row(key, str(status["id"])))
        return response


@dataclass
class Bluesky:
    """A server of the AT Protocol with one account: a record has a key, and there is one record under it."""

    did: str
    rows: list[Row] = field(default_factory=list)
    records: dict[str, object] = field(default_factory=dict)

    def key_of(self, request: httpx2.Request) -> str:
        if not request.url.path.endswith("com.atproto.repo.putRecord"):
            return ""
        return str(json.loads(request.content)["rkey"])

    async def handle(self, request: httpx2.Request) -> httpx2.Response:
        match request.url.path.rpartition("/")[2]:
            case "com.atproto.server.createSession":
                session = {"accessJwt": "a", "refreshJwt": "r", "did": self.did, "handle": "late.example"}
                return httpx2.Response(200, json=session)
            case "com.atproto.repo.putRecord":
                return self._put(json.loads(request.content))
            case "com.atproto.repo.getRecord":
                return self._get(request.url.params["rkey"])
            case "app.bsky.feed.getPosts":
                return httpx2.Response(200, json={"posts": []})
            case _:
                return httpx2.Response(501, json={"error": "MethodNotImplemented"})

    def _put(self, body: dict[str, object]) -> httpx2.Response:
        key, record = str(body["rkey"]), body["record"]
        if key in self.records and self.records[key] != record:
            return httpx2.Response(400, json={"error": "InvalidSwap"})
        if key not in self.records:
            self.records[key] = record
            self.rows.append(Row(key, self._uri(key)))
        return httpx2.Response(200, json={"uri": self._uri(key), "cid": f"cid{key}"})

    def _get(self, key: str) -> httpx2.Response:
        if key not in self.records:
            return httpx2.Response(400, json={"error": "RecordNotFound"})
        return httpx2.Response(200, json={"uri": self._uri(key), "cid": f"cid{key}", "value": self.records[key]})

    def _uri(self, key: str) -> str:
        return f"at://{self.did}/app.bsky.feed.post/{key}"


@dataclass
class Searchable:
    """An account of the sandbox network: a key makes nothing once, and posts can be searched by it."""

    rows: list[Row] = field(default_factory=list)

    def key_of(self, request: httpx2.Request) -> str:
        wanted = request.method == "POST" and request.url.path == "/api/v1/posts"
        return str(json.loads(request.content)["key"]) if wanted else ""

    async def handle(self, request: httpx2.Request) -> httpx2.Response:
        if key := self.key_of(request):
            self.rows.append(Row(key, str(len(self.rows) + 1)))
            return httpx2.Response(201, json=self._shown(self.rows[-1]))
        if request.url.path == "/api/v1/account":
            return httpx2.Response(200, json={"id": "late", "handle": "late"})
        if request.url.path == "/api/v1/posts/metrics":
            return httpx2.Response(200, json={"metrics": []})
        found = [self._shown(row) for row in reversed(self.rows) if row.key == request.url.params.get("key")]
        return httpx2.Response(200, json={"posts": found, "processing": []})

    def _shown(self, row: Row) -> dict[str, str]:
        return {"id": row.id, "url": f"http://late.example/{row.id}", "key": row.key}


@dataclass
class Opaque:
    """A network that takes posts and shows none, as a chat's webhook does. The key is for the oracle alone."""

    rows: list[Row] = field(default_factory=list)

    def key_of(self, request: httpx2.Request) -> str:
        return request.headers.get("X-Oracle", "")

    async def handle(self, request: httpx2.Request) -> httpx2.Response:
        self.rows.append(Row(self.key_of(request), str(len(self.rows) + 1)))
        return httpx2.Response(200, json={"id": self.rows[-1].id})


TOKENS = {"mastodon": TOKEN, "sandbox": "sandbox-late", "opaque": "late"}
