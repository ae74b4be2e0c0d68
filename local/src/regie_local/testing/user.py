"""The user of an installation of processes, over REST only, for tests of whole installations."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2

from regie_local.local_cluster import LocalCluster
from regie_local.testing.waiting import until

ENDS = {"published", "partially_published", "failed", "missed", "cancelled"}
Json = dict[str, Any]


@dataclass(slots=True)
class User:
    """Somebody with an API key."""

    http: httpx2.AsyncClient
    sandbox: httpx2.AsyncClient
    traces: httpx2.AsyncClient

    async def call(self, method: str, path: str, *, status: int = 200, **sent: Any) -> Json:
        """Calls the gateway and checks the status; the failure shows the problem's own words."""
        answer = await self.http.request(method, path, **sent)
        assert answer.status_code == status, f"{method} {path}: {answer.status_code} {answer.text}"
        found: Json = answer.json() if answer.content else {}
        return found

    async def connect(self, handle: str) -> str:
        """Connects an account of the sandbox network and returns the channel's id."""
        body = {
            "network": "sandbox",
            "server_url": str(self.sandbox.base_url).rstrip("/"),
            "credentials": {"access_token": f"sandbox-{handle}"},
        }
        return str((await self.call("POST", "/v1/channels", status=201, json=body))["channel_id"])

    async def schedule(self, channel_id: str, *segments: str | Json, after: float = 1.0) -> str:
        """Schedules a post some seconds ahead and returns its id; a segment is a text, or the whole of it as JSON."""
        parts = [{"text": part} if isinstance(part, str) else part for part in segments]
        at = (datetime.now(UTC) + timedelta(seconds=after)).replace(tzinfo=None).isoformat(timespec="milliseconds")
        body = {
            "title": parts[0]["text"][:50],
            "variants": [{"channel_id": channel_id, "segments": parts}],
            "publish_at": {"local_time": at, "time_zone": "UTC"},
        }
        return str((await self.call("POST", "/v1/posts", status=201, json=body))["post_id"])

    async def post(self, post_id: str) -> Json:
        return await self.call("GET", f"/v1/posts/{post_id}")

    async def timeline(self, post_id: str) -> list[Json]:
        found: list[Json] = (await self.call("GET", f"/v1/posts/{post_id}/timeline"))["entries"]
        return found

    async def ended(self, post_id: str, *, within: float = 30.0) -> str:
        """Waits until a post has come to an end and returns its state."""

        async def look() -> str:
            state = str((await self.post(post_id))["state"])
            return state if state in ENDS else ""

        return await until(look, timeout=within, what=f"the end of {post_id}")

    async def visible(self, text: str = "") -> list[Json]:
        """The posts that people see on the sandbox network, with this text in them."""
        posts = (await self.sandbox.get("/admin/posts")).json()["posts"]
        return [post for post in posts if text in post["text"]]

    async def calls(self, operation: str = "create_post") -> list[Json]:
        """The network's own log of calls."""
        found: list[Json] = (await self.sandbox.get("/admin/log", params={"operation": operation})).json()["calls"]
        return found

    async def spans(self, trace_id: str) -> list[Json]:
        """Returns the spans of a trace so far, the earliest first."""
        found: list[Json] = (await self.traces.get(f"/traces/{trace_id}")).json()["spans"]
        return found

    async def faults(self, *rules: Json) -> None:
        """Makes the network misbehave."""
        (await self.sandbox.put("/admin/faults", json=list(rules))).raise_for_status()


NewInstallation = Callable[..., AbstractAsyncContextManager[tuple[LocalCluster, User]]]
"""Starts an installation of the test's own and opens its user; takes LocalCluster's keyword arguments."""


@asynccontextmanager
async def open_user(installation: LocalCluster) -> AsyncIterator[User]:
    """Opens the clients of an installation's first key."""
    addresses = installation.addresses
    headers = {"Authorization": f"Bearer {installation.api_key}"}
    async with (
        httpx2.AsyncClient(base_url=addresses.gateway, headers=headers, timeout=30, trust_env=False) as http,
        httpx2.AsyncClient(base_url=addresses.sandbox, timeout=30, trust_env=False) as sandbox,
        httpx2.AsyncClient(base_url=addresses.traces, timeout=30, trust_env=False) as traces,
    ):
        yield User(http, sandbox, traces)


def path_to(spans: list[Json], name: str, *, service: str = "") -> list[tuple[str, str]]:
    """Returns (service, name) of each span from the root down to the first (of `service`) that is named so."""
    by_id = {span["span_id"]: span for span in spans}
    named = (span for span in spans if span["name"].startswith(name))
    span: Json | None = next(span for span in named if service in ("", span["service"]))
    path = []
    while span:
        path.append((span["service"], span["name"]))
        span = by_id.get(span["parent_id"])
    return path[::-1]
