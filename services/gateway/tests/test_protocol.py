"""The limits on strangers' requests: sizes, times and counts, over real sockets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from regie_gateway.http import protocol
from regie_gateway.http.body_limit import BodyLimit
from regie_gateway.http.connections import ConnectionLimits, TrustedProxies
from regie_gateway.http.server import HttpServer
from regie_local.testing.waiting import until
from starlette.types import Receive, Scope, Send

HOST = b"Host: regie\r\n"
GET = b"GET / HTTP/1.1\r\n" + HOST + b"\r\n"
BIG_ANSWER = 8 * 1024 * 1024


@dataclass
class App:
    """Reads each request to its end, and answers with a summary of it; `/wait` waits for `go`."""

    seen: list[dict[str, Any]] = field(default_factory=list)
    begun: int = 0
    taken: int = 0
    waiting: int = 0
    go: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = b""
        self.begun += 1
        while scope["path"] != "/early":
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            self.taken = len(body)
            if not message.get("more_body"):
                break
        if scope["path"] == "/wait":
            self.waiting += 1
            await self.go.wait()
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        self.seen.append({"path": scope["path"], "headers": headers, "body": len(body), "client": scope["client"][0]})
        answer = b"x" * BIG_ANSWER if scope["path"] == "/big" else json.dumps(self.seen[-1]).encode()
        length = (b"content-length", b"%d" % len(answer))
        await send({"type": "http.response.start", "status": 200, "headers": [length]})
        await send({"type": "http.response.body", "body": answer})


class Client:
    """A raw connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, *parts: bytes) -> None:
        try:
            for part in parts:
                self.writer.write(part)
                await self.writer.drain()
        except ConnectionError:
            pass  # the server has hung up; what it said is still to be read

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        async with asyncio.timeout(20):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
            body = await self.reader.readexactly(int(headers["content-length"]))
        return int(head[0].split()[1]), headers, body

    async def refusal(self) -> tuple[int, str]:
        status, headers, body = await self.answer()
        assert headers["content-type"] == "application/problem+json"
        assert headers["cache-control"] == "no-store"
        assert headers["connection"] == "close"
        problem = json.loads(body)
        assert problem["status"] == status
        assert await self.is_closed()
        return status, problem["reason"]

    async def is_closed(self) -> bool:
        async with asyncio.timeout(20):
            try:
                return await self.reader.read() == b""
            except ConnectionError:
                return True


Connect = Callable[[], Awaitable[Client]]


@dataclass
class House:
    """The server on a socket."""

    app: App
    http: HttpServer
    connect: Connect

    def later(self, seconds: float) -> None:
        self.http.look(asyncio.get_running_loop().time() + seconds)


@asynccontextmanager
async def serving(*, total: int = 1000, per_address: int = 1000, proxies: tuple[str, ...] = ()) -> AsyncIterator[House]:
    app = App()
    limits = ConnectionLimits(total=total, per_address=per_address, proxies=TrustedProxies(proxies))
    limited = BodyLimit(app, limit=1024 * 1024)
    http = HttpServer(limited, host="127.0.0.1", port=0, drain=timedelta(seconds=5), limits=limits)
    await http.start()
    clients: list[Client] = []

    async def connect() -> Client:
        clients.append(Client(*await asyncio.open_connection("127.0.0.1", http.port)))
        return clients[-1]

    yield House(app, http, connect)
    app.go.set()
    for client in clients:
        client.writer.close()
    await http.stop()


@pytest.fixture
async def house() -> AsyncIterator[House]:
    async with serving() as house:
        yield house


async def test_a_plain_request_is_answered_and_what_it_says_is_not_kept(house: House) -> None:
    client = await house.connect()
    for _ in range(3):
        await client.send(GET)
        status, headers, _body = await client.answer()
        assert status == 200
        assert (headers["cache-control"], headers["x-content-type-options"]) == ("no-store", "nosniff")


@pytest.mark.parametrize("step", [100, 60_000, 1_000_000])
async def test_a_head_without_end_is_refused_at_its_limit(house: House, step: int) -> None:
    client = await house.connect()
    await client.send(b"GET / HTTP/1.1\r\n" + HOST + b"X-Long: ")
    sent = 0
    while sent < 2 * protocol.MAX_HEAD:
        await client.send(b"a" * step)
        sent += step
    assert await client.refusal() == (431, "REQUEST_HEADER_FIELDS_TOO_LARGE")
    assert house.app.seen == []


@pytest.mark.parametrize(
    ("head", "refusal"),
    [
        (b"GET / HTTP/1.1\r\n" + HOST + b"X: y\r\n" * 100 + b"\r\n", (431, "REQUEST_HEADER_FIELDS_TOO_LARGE")),
        (b"GET /" + b"a" * protocol.MAX_URL + b" HTTP/1.1\r\n" + HOST + b"\r\n", (414, "REQUEST_URI_TOO_LONG")),
        (b"GET / HTTP/1.1\r\n\r\n", (400, "BAD_REQUEST")),
        (b"GET / HTTP/1.1\r\n" + HOST + HOST + b"\r\n", (400, "BAD_REQUEST")),
        (b"GET / HTTP/1.0\r\n" + HOST + HOST + b"\r\n", (400, "BAD_REQUEST")),
        (b"nonsense\r\n\r\n", (400, "BAD_REQUEST")),
        (b"CONNECT regie:80 HTTP/1.1\r\n" + HOST + b"\r\n", (400, "BAD_REQUEST")),
        (b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", (400, "BAD_REQUEST")),
    ],
    ids=["fields", "address", "no host", "two hosts", "two hosts of 1.0", "nonsense", "connect", "chunks"],
)
async def test_what_is_no_request_is_refused_as_a_problem(house: House, head: bytes, refusal: tuple[int, str]) -> None:
    client = await house.connect()
    await client.send(head)
    assert await client.refusal() == refusal
    assert house.app.seen == []


async def test_a_large_head_a_large_body_and_a_client_of_http_1_0_are_welcome(house: House) -> None:
    client = await house.connect()
    await client.send(b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"a" * 60_000 + b"\r\n\r\n")
    assert (await client.answer())[0] == 200
    body = b"b" * 900_000
    await client.send(b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 900000\r\n\r\n" + body + GET)
    assert json.loads((await client.answer())[2])["body"] == 900_000
    assert (await client.answer())[0] == 200
    old = await house.connect()
    await old.send(b"GET / HTTP/1.0\r\n\r\n")
    assert (await old.answer())[0] == 200


async def test_a_head_that_does_not_come_to_its_end_is_given_up(house: House) -> None:
    silent, slow = await house.connect(), await house.connect()
    await slow.send(b"GET / HTTP/1.1\r\nHost: re")
    await (other := await house.connect()).send(GET)
    assert (await other.answer())[0] == 200
    house.later(protocol.HEAD_TIMEOUT - 2)
    await slow.send(b"g")
    house.later(protocol.HEAD_TIMEOUT + 1)
    assert await slow.refusal() == (408, "REQUEST_TIMEOUT")
    assert await silent.is_closed()


async def test_slow_clients_take_nothing_from_others(house: House) -> None:
    slow = [await house.connect() for _ in range(64)]
    request = b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 9\r\n\r\nhalf"
    for number, client in enumerate(slow):
        await client.send(request[:number])
    quick = await house.connect()
    for _ in range(10):
        await quick.send(GET)
        assert (await quick.answer())[0] == 200


async def test_a_body_that_does_not_come_is_given_up(house: House) -> None:
    client = await house.connect()
    await client.send(b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 900000\r\n\r\n" + b"b" * 1000)

    async def begun() -> bool:
        return house.app.begun == 1

    await until(begun, what="the request")
    house.later(protocol.BODY_TIMEOUT - 1)
    house.later(protocol.BODY_TIMEOUT + 1)
    assert await client.refusal() == (408, "REQUEST_TIMEOUT")
    assert house.app.seen == []


async def test_a_body_that_stops_coming_is_given_up_however_much_has_come(house: House) -> None:
    client = await house.connect()
    size = 15 * protocol.BODY_RATE
    await client.send(b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 1000000\r\n\r\n", b"b" * size)

    async def begun() -> bool:
        return house.app.taken == size

    await until(begun, what="the body so far")
    house.later(protocol.STALL_TIMEOUT - 1)
    house.later(protocol.STALL_TIMEOUT + 1)
    assert await client.refusal() == (408, "REQUEST_TIMEOUT")


async def test_the_rest_of_a_body_that_is_answered_is_not_waited_for(house: House) -> None:
    client = await house.connect()
    await client.send(b"POST /early HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n1\r\nb\r\n")
    assert (await client.answer())[0] == 200
    house.later(protocol.LATE_BODY_TIMEOUT + 1)
    assert await client.is_closed()


async def test_an_answer_that_takes_long_is_not_cut(house: House) -> None:
    client = await house.connect()
    await client.send(b"GET /wait HTTP/1.1\r\n" + HOST + b"\r\n")

    async def waiting() -> bool:
        return house.app.waiting == 1

    await until(waiting, what="the request")
    house.later(3600)
    house.app.go.set()
    assert (await client.answer())[0] == 200


async def test_a_client_that_takes_nothing_of_its_answer_is_let_go(house: House) -> None:
    client = await house.connect()
    await client.send(b"GET /big HTTP/1.1\r\n" + HOST + b"\r\n")

    async def answered() -> bool:
        return len(house.app.seen) == 1

    await until(answered, what="the answer")
    house.later(0)
    house.later(protocol.UNREAD_TIMEOUT + 1)
    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
        await client.answer()


async def test_a_trailer_field_is_no_header(house: House) -> None:
    client = await house.connect()
    chunked = b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n1\r\nb\r\n0\r\n"
    await client.send(chunked + b"Authorization: Bearer regie_x\r\nHost: other\r\n\r\n")
    assert json.loads((await client.answer())[2])["headers"] == {"host": "regie", "transfer-encoding": "chunked"}
    await client.send(chunked + b"X-Long: ", *[b"a" * 60_000] * 3)
    assert await client.refusal() == (431, "REQUEST_HEADER_FIELDS_TOO_LARGE")


async def test_blanks_around_a_headers_value_are_no_part_of_it(house: House) -> None:
    client = await house.connect()
    await client.send(b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 0\r\nLast-Event-ID: \t a b \t \r\n\r\n")
    assert json.loads((await client.answer())[2])["headers"]["last-event-id"] == "a b"


async def test_requests_sent_ahead_are_answered_in_order_up_to_a_limit(house: House) -> None:
    client = await house.connect()
    paths = [f"/{number}" for number in range(protocol.MAX_PIPELINED)]
    await client.send(b"".join(GET.replace(b" / ", f" {path} ".encode()) for path in paths))
    assert [json.loads((await client.answer())[2])["path"] for _ in paths] == paths
    greedy = await house.connect()
    await greedy.send(b"GET /wait HTTP/1.1\r\n" + HOST + b"\r\n" + GET * 1000)
    assert await greedy.is_closed()
    assert len(house.app.seen) == len(paths)


async def test_nonsense_behind_a_request_does_not_get_into_its_answer(house: House) -> None:
    client = await house.connect()
    await client.send(b"GET /wait HTTP/1.1\r\n" + HOST + b"\r\n" + b"nonsense\r\n\r\n")
    assert await client.is_closed()


async def test_a_body_over_the_limit_is_taken_until_its_sender_has_seen_the_answer(house: House) -> None:
    client = await house.connect()
    await client.send(b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 4000000\r\n\r\n")
    await client.send(*[b"b" * 100_000] * 40)
    assert await client.refusal() == (413, "REQUEST_TOO_LARGE")


async def test_connections_are_limited_in_all_and_by_address() -> None:
    async with serving(per_address=2) as house:
        first, second = await house.connect(), await house.connect()
        for client in (first, second):
            await client.send(GET)
            assert (await client.answer())[0] == 200
        assert await (await house.connect()).refusal() == (503, "SERVICE_UNAVAILABLE")
        first.writer.close()

        async def let_in() -> bool:
            client = await house.connect()
            await client.send(GET)
            status = (await client.answer())[0]
            client.writer.close()
            return status == 200

        await until(let_in, what="a place")
    async with serving(total=1, proxies=("127.0.0.0/8",)) as house:
        await house.connect()
        assert await (await house.connect()).refusal() == (503, "SERVICE_UNAVAILABLE")
    async with serving(per_address=1, proxies=("127.0.0.0/8",)) as house:
        for client in [await house.connect(), await house.connect()]:
            await client.send(GET)
            assert (await client.answer())[0] == 200


@pytest.mark.parametrize(
    ("proxies", "forwarded", "client"),
    [
        ((), "1.1.1.1", "127.0.0.1"),
        (("127.0.0.0/8",), "1.1.1.1", "1.1.1.1"),
        (("127.0.0.0/8",), "6.6.6.6, 1.1.1.1", "1.1.1.1"),
        (("127.0.0.0/8", "10.0.0.0/8"), "6.6.6.6, 1.1.1.1:99, 10.0.0.1", "1.1.1.1"),
        (("127.0.0.0/8",), "1.1.1.1, nonsense", "127.0.0.1"),
        (("127.0.0.0/8",), "[2001:db8::1]:80", "2001:db8::1"),
    ],
)
async def test_the_clients_address_is_the_last_that_is_no_proxy_of_ours(
    proxies: tuple[str, ...], forwarded: str, client: str
) -> None:
    async with serving(proxies=proxies) as house:
        someone = await house.connect()
        await someone.send(b"GET / HTTP/1.1\r\n" + HOST + f"X-Forwarded-For: {forwarded}\r\n\r\n".encode())
        assert json.loads((await someone.answer())[2])["client"] == client


@given(st.lists(st.ip_addresses().map(str), max_size=5), st.ip_addresses().map(str))
def test_nobody_but_a_trusted_proxy_changes_the_address(invented: list[str], real: str) -> None:
    proxies = TrustedProxies(["10.0.0.0/8"])
    forwarded = ",".join([*invented, real])
    assert proxies.client_of("203.0.113.1", forwarded) == "203.0.113.1"
    if not proxies.trusts(real):
        assert proxies.client_of("10.0.0.1", forwarded) == real
