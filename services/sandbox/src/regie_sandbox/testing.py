"""A sandbox network for tests: a real process on a free port, and its log as the oracle."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import socket
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

READY_WITHIN = 20.0
STOP_WITHIN = 5.0


class NotReady(RuntimeError):
    """The process ended or did not answer in time."""


@dataclass(slots=True)
class RunningSandbox:
    """A sandbox that answers at `url`. Accounts come from tokens `sandbox-<handle>`."""

    url: str
    data: Path | None
    _client: httpx2.AsyncClient
    _process: asyncio.subprocess.Process

    async def log(self, operation: str | None = None, after: int = 0) -> list[dict[str, Any]]:
        """Every call with a sequence number over `after`, oldest first; see the README for its fields."""
        params = {"after": str(after)} | ({"operation": operation} if operation else {})
        return await self._listed("/admin/log", "calls", params)

    async def posts(self, account: str | None = None, key: str | None = None) -> list[dict[str, Any]]:
        """Every visible post, oldest first."""
        params = {name: value for name, value in (("account", account), ("key", key)) if value is not None}
        return await self._listed("/admin/posts", "posts", params)

    async def count(self) -> int:
        """How many posts are visible."""
        found: int = (await self._asked("GET", "/admin/posts/count"))["count"]
        return found

    async def repeated_keys(self) -> int:
        """How many keys have more than one visible post: 0 when nothing was published twice."""
        found: int = (await self._asked("GET", "/admin/posts/count"))["repeated_keys"]
        return found

    async def set_faults(self, rules: Sequence[Mapping[str, object]]) -> None:
        """Puts these rules in the place of all others, such as `[{"operation": "create_post", "drop_after": True}]`."""
        await self._asked("PUT", "/admin/faults", json=[dict(rule) for rule in rules])

    async def faults(self) -> list[dict[str, Any]]:
        """Returns the rules, with the rest of `times`."""
        return await self._listed("/admin/faults", "rules", {})

    async def clear_faults(self) -> None:
        await self._asked("DELETE", "/admin/faults")

    async def clear_log(self) -> None:
        (await self._client.request("DELETE", "/admin/log")).raise_for_status()

    async def until_called(
        self, operation: str, times: int = 1, *, after: int = 0, within: float = 20.0
    ) -> list[dict[str, Any]]:
        """Waits until an operation was called so many times since `after`, and returns those calls."""
        async with asyncio.timeout(within):
            # The condition is in another process: there is nothing to wait on but its answer.
            while len(calls := await self.log(operation, after)) < times:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        return calls

    async def kill(self) -> None:
        """Ends the process at once, as `kill -9` does. Start another on the same `data` and `port` to go on."""
        self._process.send_signal(signal.SIGKILL)
        await self._process.wait()

    @property
    def port(self) -> int:
        return httpx2.URL(self.url).port or 80

    async def _listed(self, path: str, name: str, params: Mapping[str, str]) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await self._asked("GET", path, params=params))[name]
        return found

    async def _asked(self, method: str, path: str, **sent: Any) -> dict[str, Any]:
        answer = await self._client.request(method, path, **sent)
        if answer.status_code == httpx2.codes.UNPROCESSABLE_CONTENT:
            raise ValueError(answer.json()["message"])
        document: dict[str, Any] = answer.raise_for_status().json()
        return document


@asynccontextmanager
async def running_sandbox(data: Path | None = None, *, port: int | None = None) -> AsyncIterator[RunningSandbox]:
    """Starts a sandbox in a process of its own, waits until it answers, and ends it with the block.

    With `data` it remembers; start a second one on the same folder (and `port`) to go on after `kill`.
    """
    port = port or free_port()
    url = f"http://127.0.0.1:{port}"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "regie_sandbox", "serve", env=_environment(port, data)
    )
    try:
        async with httpx2.AsyncClient(base_url=url, trust_env=False) as client:
            await _until_ready(client, process)
            yield RunningSandbox(url, data, client, process)
    finally:
        await _stop(process)


def free_port() -> int:
    """Returns a free loopback port, below the ports of outgoing connections."""
    while True:
        port = 20_000 + secrets.randbelow(12_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def _environment(port: int, data: Path | None) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("SANDBOX_")}
    own = {"SANDBOX_PORT": str(port), "SANDBOX_HOST": "127.0.0.1"}
    return inherited | own | ({"SANDBOX_DATA": str(data)} if data else {})


async def _until_ready(client: httpx2.AsyncClient, process: asyncio.subprocess.Process) -> None:
    try:
        async with asyncio.timeout(READY_WITHIN):
            while not await _answers(client, process.pid):
                if process.returncode is not None:
                    raise NotReady(f"The sandbox ended with status {process.returncode}; its words are above.")
                await asyncio.sleep(0.02)
    except TimeoutError as error:
        raise NotReady(f"The sandbox did not answer within {READY_WITHIN:g} seconds.") from error


async def _answers(client: httpx2.AsyncClient, pid: int) -> bool:
    """True when this very process answers: somebody else may have taken the port in between."""
    try:
        answer = await client.get("/healthz")
    except httpx2.TransportError:
        return False
    return answer.is_success and answer.json().get("pid") == pid


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    process.terminate()
    try:
        await asyncio.wait_for(process.wait(), STOP_WITHIN)
    except TimeoutError:
        process.kill()
        await process.wait()
