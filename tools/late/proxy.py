"""A proxy in front of a stand-in, on loopback: it may hand a call on long after the publisher has lost its answer."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import httpx2
from fates import LATE, Fate, Fates, Way
from standins import StandIn

HEAD_LIMIT = 65_536


class Proxy:
    """Listens for one account's server. `until_landed` waits for every call that is still on its way."""

    def __init__(self, server: StandIn, fates: Fates) -> None:
        self.server = server
        self._fates = fates
        self._late: set[asyncio.Task[None]] = set()
        self._listening: asyncio.Server | None = None

    async def start(self) -> str:
        """Returns the address it listens at."""
        self._listening = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=HEAD_LIMIT)
        return f"http://127.0.0.1:{self._listening.sockets[0].getsockname()[1]}"

    async def stop(self) -> None:
        if self._listening:
            self._listening.close()
        for task in self._late:
            task.cancel()

    async def until_landed(self) -> None:
        while self._late:
            await asyncio.wait(list(self._late))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            request = await _read(reader)
            response = await self._treat(request, reader)
            if response is not None:
                writer.write(_written(response))
                await writer.drain()
        writer.close()

    async def _treat(self, request: httpx2.Request, reader: asyncio.StreamReader) -> httpx2.Response | None:
        """Returns the answer for the publisher; None cuts the connection."""
        key = self.server.key_of(request)
        if not key:
            return await self.server.handle(request)
        fate = self._fates.draw(key)
        if fate.way is Way.HUNG_LATE:
            await reader.read()  # the publisher gives up
        if fate.way in LATE:
            self._hand_on_later(request, fate)
        return await self._answer(request, fate)

    async def _answer(self, request: httpx2.Request, fate: Fate) -> httpx2.Response | None:
        match fate.way:
            case Way.THROUGH:
                return await self.server.handle(request)
            case Way.DROPPED_NOW:
                await self.server.handle(request)
                return None
            case Way.BAD_GATEWAY_NOW:
                await self.server.handle(request)
                return httpx2.Response(502, html="<h1>502 Bad Gateway</h1>")
            case Way.TIMEOUT_LATE:
                return httpx2.Response(504, html="<h1>504 Gateway Time-out</h1>")
            case Way.BAD_GATEWAY_LATE:
                return httpx2.Response(502, html="<h1>502 Bad Gateway</h1>")
            case Way.UNAVAILABLE_NEVER:
                return httpx2.Response(503, html="<h1>Maintenance</h1>")
            case Way.LIMITED_NEVER:
                return httpx2.Response(429, headers=self._fates.limit_headers(), json={"error": "Too many requests"})
            case _:
                return None

    def _hand_on_later(self, request: httpx2.Request, fate: Fate) -> None:
        async def hand_on() -> None:
            await asyncio.sleep(fate.lateness)
            await self.server.handle(request)

        task = asyncio.create_task(hand_on())
        self._late.add(task)
        task.add_done_callback(self._late.discard)


async def _read(reader: asyncio.StreamReader) -> httpx2.Request:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    method, target, _ = head[0].split(" ", 2)
    headers = [(name, value.strip()) for name, _, value in (line.partition(":") for line in head[1:] if line)]
    length = next((int(value) for name, value in headers if name.lower() == "content-length"), 0)
    body = await reader.readexactly(length)
    return httpx2.Request(method, f"http://late.example{target}", headers=headers, content=body)


def _written(response: httpx2.Response) -> bytes:
    body = response.content
    kept = [(name, value) for name, value in response.headers.items() if name.lower() != "content-length"]
    lines = [f"HTTP/1.1 {response.status_code} -", *(f"{name}: {value}" for name, value in kept)]
    lines += [f"Content-Length: {len(body)}", "Connection: close", "", ""]
    return "\r\n".join(lines).encode("latin-1") + body
