"""Connections shared between hosts: each host has its own, so that a host that hangs uses up no other's.

httpcore's pool has one limit for all hosts: one host can make the requests to all others wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import cast

import httpx2

_Host = tuple[str, int | None]


class HostLimits(httpx2.AsyncBaseTransport):
    """Allows `per_host` open requests to a host; a request is open until its response is closed.

    A request to a full host waits for `Timeout.pool` seconds and then ends with `PoolTimeout`.
    """

    def __init__(self, inner: httpx2.AsyncBaseTransport, *, per_host: int) -> None:
        self._inner = inner
        self._per_host = per_host
        self._gates: dict[_Host, asyncio.Semaphore] = {}
        self._users: dict[_Host, int] = {}

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        leave = await self._enter(request)
        try:
            response = await self._inner.handle_async_request(request)
        except BaseException:
            leave()
            raise
        response.stream = _UntilClosed(cast("httpx2.AsyncByteStream", response.stream), leave)
        return response

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def _enter(self, request: httpx2.Request) -> Callable[[], None]:
        host = (request.url.host, request.url.port)
        gate = self._gates.setdefault(host, asyncio.Semaphore(self._per_host))
        self._users[host] = self._users.get(host, 0) + 1
        try:
            async with asyncio.timeout(request.extensions.get("timeout", {}).get("pool")):
                await gate.acquire()
        except TimeoutError as error:
            self._forget(host)
            raise httpx2.PoolTimeout(f"all connections to {request.url.host} are in use", request=request) from error
        except BaseException:
            self._forget(host)
            raise

        def leave() -> None:
            gate.release()
            self._forget(host)

        return leave

    def _forget(self, host: _Host) -> None:
        self._users[host] -= 1
        if not self._users[host]:  # else a tenant's many names would stay for ever
            del self._users[host], self._gates[host]


class _UntilClosed(httpx2.AsyncByteStream):
    def __init__(self, inner: httpx2.AsyncByteStream, leave: Callable[[], None]) -> None:
        self._inner = inner
        self._leave: Callable[[], None] | None = leave

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in self._inner:
            yield part

    async def aclose(self) -> None:
        leave, self._leave = self._leave, None
        try:
            await self._inner.aclose()
        finally:
            if leave is not None:
                leave()
