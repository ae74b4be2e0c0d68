"""A server that speaks Mastodon's API and means harm; for tests, and for `make hostile`.

Its responses and its manner of sending them are `Knobs`, which may be turned while it runs.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

CRUMB = b"1\r\n \r\n"
TRICKLE_EVERY = 1.0
"""Seconds between two bytes."""
MAX_LIKERS = 25_000


@dataclass(slots=True)
class Knobs:
    """The server's responses. `manner` is plain, or one of `MANNERS` for the paths that `harmful` matches."""

    account_id: str = "1"
    username: str = "evil"
    display_name: str = "Evil"
    domain: str = "evil.example"
    status_id: str = ""
    """Of every status; empty gives each its own number."""
    status_url: str = ""
    favourites: object = 0
    likers: list[dict[str, str]] = field(default_factory=list)
    code: int = 200
    manner: str = "plain"
    crumbs: int = 2_000_000
    harmful: str = ".*"
    """A regular expression of the paths that are answered with `code` and in this `manner`; others are well."""
    seen: list[tuple[str, str]] = field(default_factory=list)
    """Method and target of every request, as they came."""
    published: list[str] = field(default_factory=list)
    """The texts of the statuses that it took."""


def many_likers(count: int = MAX_LIKERS, *, id_length: int = 0) -> list[dict[str, str]]:
    """Returns people who liked a status, with ids and names of at least that length."""
    return [{"id": f"{number:0{id_length or 1}}", "acct": f"fan{number:0{id_length or 1}}"} for number in range(count)]


@asynccontextmanager
async def serve(knobs: Knobs, *, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[str]:
    """Serves until the block ends; gives the server's address."""
    connections: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(_converse(knobs, reader, writer))
        connections.add(task)
        task.add_done_callback(connections.discard)

    server = await asyncio.start_server(accept, host, port)
    try:
        yield f"http://{host}:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in list(connections):
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)


async def _converse(knobs: Knobs, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                method, target = head.split(" ", 2)[:2]
                length = re.search(r"(?im)^content-length: *(\d+)", head)
                content = await reader.readexactly(int(length[1])) if length else b""
                knobs.seen.append((method, target))
                await _answer(knobs, writer, method, target, content)
    finally:
        writer.close()


async def _answer(knobs: Knobs, writer: asyncio.StreamWriter, method: str, target: str, content: bytes) -> None:
    path = target.partition("?")[0]
    document = _document(knobs, method, path, content)
    harmful = re.fullmatch(knobs.harmful, path) is not None
    code = 404 if document is None else knobs.code if harmful else 200
    if harmful and knobs.manner in _ENDLESS:
        await _ENDLESS[knobs.manner](knobs, writer)
        return
    body = json.dumps(document).encode()
    if harmful and knobs.manner == "utf-16":
        body = json.dumps(document, ensure_ascii=False).encode("utf-16")
    elif harmful and knobs.manner == "deep":
        body = b'{"id":' + b"[" * 900 + b"]" * 900 + b"}"
    head = f"HTTP/1.1 {code} Said\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    await writer.drain()


async def _hang(_knobs: Knobs, _writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


async def _cut(_knobs: Knobs, _writer: asyncio.StreamWriter) -> None:
    raise ConnectionResetError


async def _trickle_head(_knobs: Knobs, writer: asyncio.StreamWriter) -> None:
    await _trickle(writer, b"HTTP/1.1 200 OK\r\nX-Slow: " + b"x" * 100_000)


async def _trickle_body(_knobs: Knobs, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    await _trickle(writer, b" " * 100_000)


async def _crumble(knobs: Knobs, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    for _ in range(knobs.crumbs // 1000):
        writer.write(CRUMB * 1000)
        await writer.drain()
    writer.write(b"0\r\n\r\n")


async def _flood(_knobs: Knobs, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        writer.write(b" " * 65_536)
        await writer.drain()


_ENDLESS = {
    "hang": _hang,
    "cut": _cut,
    "trickle head": _trickle_head,
    "trickle body": _trickle_body,
    "crumbs": _crumble,
    "endless": _flood,
}
MANNERS = ("plain", "utf-16", "deep", *_ENDLESS)


async def _trickle(writer: asyncio.StreamWriter, data: bytes) -> None:
    for at in range(len(data)):
        writer.write(data[at : at + 1])
        await writer.drain()
        await asyncio.sleep(TRICKLE_EVERY)


def _document(knobs: Knobs, method: str, path: str, content: bytes) -> object:
    if path == "/api/v1/accounts/verify_credentials":
        return {"id": knobs.account_id, "username": knobs.username, "display_name": knobs.display_name}
    if path == "/api/v2/instance":
        return {"domain": knobs.domain, "configuration": {"statuses": {"max_characters": 10_000}}}
    if (method, path) == ("POST", "/api/v1/statuses"):
        knobs.published.append(str(json.loads(content).get("status", "")))
        return _status(knobs, len(knobs.published))
    if (method, path) == ("POST", "/api/v2/media"):
        return {"id": knobs.status_id or "1"}
    if path.endswith("/favourited_by"):
        return knobs.likers
    if re.fullmatch(r"/api/v1/accounts/[^/]*/statuses", path):
        return []
    if path.startswith("/api/v1/statuses/"):
        return _status(knobs, 1) | {"favourites_count": knobs.favourites, "replies_count": 0, "reblogs_count": 0}
    return None


def _status(knobs: Knobs, number: int) -> dict[str, object]:
    status_id = knobs.status_id or str(number)
    return {"id": status_id, "url": knobs.status_url or f"https://{knobs.domain[:100]}/@evil/{number}"}
