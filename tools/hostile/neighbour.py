"""The neighbour: posts twice a second, reads his own resources and records his observations during an attack."""

from __future__ import annotations

import asyncio
import secrets
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import httpx2
from scene import Json, Scene

EVERY = 0.5  # seconds between two posts
AHEAD = 1.5  # seconds from the call to the due time
READ_EVERY = 0.2  # seconds
PATIENCE = 30.0  # seconds for the last post, and for its numbers
READS = ("/v1/channels", "/v1/posts?page_size=5", "/v1/profiles?page_size=5", "/v1/workspace")


@dataclass
class Seen:
    """The neighbour's observations. Times are seconds; `worst_late` is None where a post never came out."""

    posts: int = 0
    worst_late: float | None = 0.0
    doubled: int = 0
    worst_read: float = 0.0
    refused: list[str] = field(default_factory=list)
    measured: bool = False
    """The last post's numbers and its people arrived."""


class Neighbour:
    """Workspace `demo`, on a channel of the sandbox."""

    def __init__(self, scene: Scene, channel_id: str) -> None:
        self._scene = scene
        self.channel_id = channel_id
        self._due: dict[str, datetime] = {}
        self._ids: list[str] = []
        self._seen = Seen()

    async def live(self, until: asyncio.Event) -> Seen:
        """Posts and reads until `stopping` is set, then waits for the last post and its numbers."""
        self._due, self._ids, self._seen = {}, [], Seen()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._post(until))
            tasks.create_task(self._read(until))
        await self._judge()
        return self._seen

    async def _post(self, until: asyncio.Event) -> None:
        while not until.is_set():
            await self._one_post()
            await asyncio.sleep(EVERY)

    async def _one_post(self) -> None:
        text = f"neighbour {secrets.token_hex(8)}"
        due = datetime.now(UTC) + timedelta(seconds=AHEAD)
        body = {
            "title": text,
            "variants": [{"channel_id": self.channel_id, "text": text}],
            "publish_at": {"local_time": due.replace(tzinfo=None).isoformat(), "time_zone": "UTC"},
        }
        response = await self._timed("POST", "/v1/posts", body)
        if response is not None and response.status_code == 201:
            # A call that itself took longer than the way to the due time is late from its own end on.
            self._due[text] = max(due, datetime.now(UTC))
            self._ids.append(str(response.json()["post_id"]))

    async def _read(self, until: asyncio.Event) -> None:
        while not until.is_set():
            for path in READS:
                await self._timed("GET", path)
            await asyncio.sleep(READ_EVERY)

    async def _timed(self, method: str, path: str, body: Json | None = None) -> httpx2.Response | None:
        began = time.monotonic()
        try:
            response = await self._scene.neighbour.request(method, path, json=body)
        except httpx2.HTTPError as error:
            self._seen.refused.append(f"{method} {path}: {type(error).__name__}")
            return None
        self._seen.worst_read = max(self._seen.worst_read, time.monotonic() - began)
        if response.status_code >= 400:
            self._seen.refused.append(f"{method} {path}: {response.status_code} {response.text[:120]}")
        return response

    async def _judge(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while True:
            arrived = await self._arrivals()
            if set(self._due) <= set(arrived) or time.monotonic() > deadline:
                break
            await asyncio.sleep(0.2)
        lates = [(arrived[text][0] - due).total_seconds() for text, due in self._due.items() if text in arrived]
        self._seen.posts = len(self._due)
        self._seen.doubled = sum(len(arrived.get(text, [])) > 1 for text in self._due)
        self._seen.worst_late = max(lates, default=0.0) if len(lates) == len(self._due) else None
        self._seen.measured = await self._measured()

    async def _arrivals(self) -> dict[str, list[datetime]]:
        """Returns when the network was called for each text: its own log, not Régie's word."""
        calls = (await self._scene.sandbox.get("/admin/log", params={"operation": "create_post"})).json()["calls"]
        found: dict[str, list[datetime]] = {}
        for call in calls:
            if call["text"] in self._due and call["effect"]:
                found.setdefault(call["text"], []).append(datetime.fromisoformat(call["time"]))
        return found

    async def _measured(self) -> bool:
        """Waits until the last post has numbers above zero, which shows that every service still reads its events."""
        deadline = time.monotonic() + PATIENCE
        while self._ids and time.monotonic() < deadline:
            response = await self._scene.neighbour.get(f"/v1/posts/{self._ids[-1]}/metrics")
            if response.status_code == 200 and any(total > 0 for total in response.json()["totals"].values()):
                return True
            await asyncio.sleep(0.5)
        return False


async def open_neighbour(scene: Scene) -> Neighbour:
    """Connects the neighbour's channel."""
    body = {
        "network": "sandbox",
        "server_url": scene.installation.addresses.sandbox,
        "credentials": {"access_token": "sandbox-neighbour"},
    }
    response = await scene.neighbour.post("/v1/channels", json=body)
    response.raise_for_status()
    return Neighbour(scene, str(response.json()["channel_id"]))
