"""The installation under attack: two workspaces, their clients, the hostile server, and the health of the services."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Any

import httpx2
import psutil
from regie_local.environment import Ports
from regie_local.local_cluster import LocalCluster
from regie_local.processes import free_port
from regie_local.services import service_specs
from server import HostileServer

Json = dict[str, Any]
ATTACKER_ADDRESS = "127.0.0.2"
"""Attacks come from an address of their own, as they would outside of one machine."""
MAX_TRIES = 10
MAX_WAIT = 2  # seconds that the attacker waits when a limit tells to


@dataclass
class Attacker:
    """The second tenant. Counts every status that it was answered."""

    http: httpx2.AsyncClient
    statuses: Counter[int] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    async def call(self, method: str, path: str, **sent: Any) -> httpx2.Response:
        """Makes a call, and repeats it where a limit asks to wait a moment.

        Answers of 500 and above are recorded as problems, except 503 and 504, which ask for a repetition.
        """
        for _ in range(MAX_TRIES):
            response = await self.http.request(method, path, **sent)
            wait = int(response.headers.get("Retry-After", "0"))
            if response.status_code != HTTPStatus.TOO_MANY_REQUESTS or wait > MAX_WAIT:
                break
            await asyncio.sleep(max(wait, 0.2))
        self.statuses[response.status_code] += 1
        if response.status_code >= 500 and response.status_code not in (503, 504):
            self.problems.append(f"{method} {path}: {response.status_code}")
        return response

    async def connect(self, server_url: str) -> httpx2.Response:
        """Connects an account of the hostile server."""
        body = {"network": "mastodon", "server_url": server_url, "credentials": {"access_token": "x"}}
        return await self.call("POST", "/v1/channels", json=body)

    async def publish(self, channel_ids: list[str], text: str, *, after: float = 0.5) -> str:
        """Schedules a post; returns its id, or nothing where it was refused."""
        at = (datetime.now(UTC) + timedelta(seconds=after)).replace(tzinfo=None).isoformat(timespec="milliseconds")
        variants = [{"channel_id": channel_id, "text": text} for channel_id in channel_ids]
        body = {"title": text, "variants": variants, "publish_at": {"local_time": at, "time_zone": "UTC"}}
        response = await self.call("POST", "/v1/posts", json=body)
        return str(response.json()["post_id"]) if response.status_code == 201 else ""


@dataclass
class Scene:
    """The installation that the attacks and the neighbour share."""

    installation: LocalCluster
    hostile: HostileServer
    attacker: Attacker
    neighbour: httpx2.AsyncClient
    sandbox: httpx2.AsyncClient
    peak_rss: int = 0
    _started: dict[str, int] = field(default_factory=dict)

    def remember(self) -> None:
        """Keeps the process ids to compare with at the end of an attack."""
        self._started = {name: child.pid for name, child in self.installation.processes.items()}
        self.peak_rss = 0

    async def watch_memory(self) -> None:
        """Keeps the publisher's largest memory, with its children's, until it is cancelled."""
        while True:
            self.peak_rss = max(self.peak_rss, _memory(self.installation.process("publisher").pid))
            await asyncio.sleep(0.2)

    async def unhealthy(self) -> list[str]:
        """Returns the services that ended or do not report to be ready, after a grace for a moment's outage."""
        deadline = asyncio.get_running_loop().time() + 5
        while bad := [name for name in service_specs() if not await asyncio.to_thread(self._is_well, name)]:
            if asyncio.get_running_loop().time() > deadline:
                break
            await asyncio.sleep(0.2)
        return bad

    def _is_well(self, name: str) -> bool:
        child = self.installation.process(name)
        return child.running and child.pid == self._started.get(name) and self.installation.is_ready(name)


@asynccontextmanager
async def open_scene(folder: Path) -> AsyncIterator[Scene]:
    """Starts everything in an empty folder and stops it in the end."""
    hostile = HostileServer()
    await hostile.start()
    sandbox_port = free_port()
    # The hostile server stands for a public one, so the guard that keeps private addresses away is told to let it pass.
    allowed = {"PUBLISHER_ALLOWED_HOSTS": f"127.0.0.1:{sandbox_port},127.0.0.1:{hostile.port}"}
    installation = LocalCluster(folder, ports=Ports(sandbox=sandbox_port), env={"publisher": allowed}, fsync=False)
    await asyncio.to_thread(installation.start)
    try:
        key = await asyncio.to_thread(installation.new_key, "attacker")
        outside = httpx2.AsyncHTTPTransport(local_address=ATTACKER_ADDRESS, limits=httpx2.Limits(max_connections=100))
        async with (
            _client(installation, key, transport=outside) as attacker,
            _client(installation, installation.api_key) as neighbour,
            httpx2.AsyncClient(base_url=installation.addresses.sandbox, timeout=30, trust_env=False) as sandbox,
        ):
            yield Scene(installation, hostile, Attacker(attacker), neighbour, sandbox)
    finally:
        hostile.stop()
        await asyncio.to_thread(installation.stop)


async def eventually(look: Callable[[], Awaitable[bool]], *, within: float = 30.0) -> bool:
    """Returns whether `look` came true within so many seconds."""
    deadline = asyncio.get_running_loop().time() + within
    while not await look():
        if asyncio.get_running_loop().time() > deadline:
            return False
        await asyncio.sleep(0.3)
    return True


def _client(installation: LocalCluster, key: str, **more: Any) -> httpx2.AsyncClient:
    headers = {"Authorization": f"Bearer {key}"}
    return httpx2.AsyncClient(
        base_url=installation.addresses.gateway, headers=headers, timeout=60, trust_env=False, **more
    )


def _memory(pid: int) -> int:
    try:
        process = psutil.Process(pid)
        return sum(each.memory_info().rss for each in (process, *process.children(recursive=True)))
    except psutil.Error:
        return 0
