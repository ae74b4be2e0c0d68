"""A hostile server that speaks Mastodon's API: the attack chooses each of its answers."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

Json = dict[str, Any]
CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
TRICKLE = 1.0  # seconds between two bytes of a head
MAX_TRICKLE = 60  # bytes, so that the server stops by itself


@dataclass
class HostileServer:
    """Answers according to its fields, which may change at any time. `texts` are the statuses that it accepted."""

    account: Json = field(default_factory=lambda: {"id": "1", "username": "eve", "acct": "eve", "display_name": "Eve"})
    domain: str = "hostile.example"
    counts: Json = field(default_factory=dict)
    likers: list[Json] = field(default_factory=list)
    status: Json = field(default_factory=dict)
    """Members of every answered status, over the usual ones."""
    one_byte_chunks: int = 0
    """Number of chunks of one byte that an answer about the account consists of."""
    trickle: bool = False
    """Sends the head of an answer to a status one byte a second."""
    texts: list[str] = field(default_factory=list)
    requests: int = 0
    _server: asyncio.Server | None = None
    _next_id: int = 1

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)

    def stop(self) -> None:
        """Stops listening; connections end with the process."""
        if self._server:
            self._server.close()

    @property
    def port(self) -> int:
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                body = await reader.readexactly(_length(head))
                self.requests += 1
                await self._answer(writer, head.split(" ", 2)[0], urlsplit(head.split(" ", 2)[1]).path, body)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # the other side has gone
        finally:
            writer.close()

    async def _answer(self, writer: asyncio.StreamWriter, method: str, path: str, body: bytes) -> None:
        if path == "/api/v1/accounts/verify_credentials" and self.one_byte_chunks:
            writer.write(CHUNKED + b"1\r\n \r\n" * self.one_byte_chunks + b"0\r\n\r\n")
            await writer.drain()
            return
        if method == "POST" and path == "/api/v1/statuses" and self.trickle:
            for _ in range(MAX_TRICKLE):
                writer.write(b"H")
                await writer.drain()
                await asyncio.sleep(TRICKLE)
            return
        found = self._find(method, path, body)
        payload = json.dumps({"error": "not found"} if found is None else found, ensure_ascii=False).encode()
        writer.write(
            f"HTTP/1.1 {404 if found is None else 200} OK\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(payload)}\r\n\r\n".encode()
            + payload
        )
        await writer.drain()

    def _find(self, method: str, path: str, body: bytes) -> Json | list[Json] | None:
        if path == "/api/v1/accounts/verify_credentials":
            return self.account
        if path in ("/api/v2/instance", "/api/v1/instance"):
            return {"domain": self.domain, "uri": self.domain, "version": "4.5.0", "configuration": {}}
        if path.endswith("/favourited_by"):
            return self.likers
        if method == "POST" and path == "/api/v1/statuses":
            self.texts.append(str(json.loads(body).get("status", "")))
            return self._status(self._new_id())
        if path.startswith("/api/v1/statuses/"):
            return self._status(path.rpartition("/")[2]) | self.counts
        return [] if path.endswith("/statuses") else None

    def _status(self, number: str) -> Json:
        return {"id": number, "url": f"{self.url}/@eve/{number}", "content": "", "media_attachments": []} | self.status

    def _new_id(self) -> str:
        self._next_id += 1
        return str(self._next_id)


def _length(head: str) -> int:
    for line in head.split("\r\n"):
        name, _, value = line.partition(":")
        if name.lower() == "content-length":
            return int(value)
    return 0
