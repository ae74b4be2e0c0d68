"""The outcomes of a call: not sent, unknown, or a response that is readable with any content."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from regie_networks.bounds import MAX_WAIT
from regie_networks.errors import NotSent, OutcomeUnknown
from regie_networks.http import MAX_BODY, Response, call, retry_after

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
Peer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def listening(peer: Peer) -> AsyncIterator[str]:
    """Runs `peer` for every connection on a free port, after it has read the head of the request."""

    peers: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            await peer(reader, writer)
        except ConnectionError:
            pass  # the client left early, which some of the tests are about
        finally:
            writer.close()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peers.add(asyncio.create_task(serve(reader, writer)))

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        if peers:
            await asyncio.wait(peers, timeout=5)


def answering(raw: bytes) -> Peer:
    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(raw)
        await writer.drain()

    return peer


def whole(status: str, body: bytes, extra: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{extra}\r\n".encode() + body


async def get(url: str, *, timeout: float = 5.0) -> Response:
    async with httpx2.AsyncClient() as client:
        return await call(client, "GET", url, timeout=timeout)


async def test_a_refused_connection_was_not_sent() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(NotSent, match=r"^GET to 127\.0\.0\.1: no connection could be made$"):
            await get(f"http://127.0.0.1:{unused.getsockname()[1]}/")


async def test_a_full_pool_was_not_sent() -> None:
    held = asyncio.Event()

    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held.set()
        await reader.read()

    async with listening(hold) as url, httpx2.AsyncClient(limits=httpx2.Limits(max_connections=1)) as client:
        first = asyncio.create_task(call(client, "GET", url, timeout=30))
        await held.wait()
        with pytest.raises(NotSent):
            await call(client, "GET", url, timeout=0.4)
        first.cancel()
        await asyncio.wait([first])


@pytest.mark.parametrize("url", ["ftp://example.test/", "http://", "http://exa mple.test:port/", "nonsense"])
async def test_an_unusable_address_was_not_sent(url: str) -> None:
    with pytest.raises(NotSent):
        await get(url)


@pytest.mark.parametrize("value", ["Bearer a\r\nX: b", "Bearer é☃"])
async def test_an_unusable_header_was_not_sent(value: str) -> None:
    async with httpx2.AsyncClient() as client:
        with pytest.raises(NotSent) as raised:
            await call(client, "GET", "http://127.0.0.1:9/", headers={"Authorization": value})
    assert "Bearer" not in str(raised.value)


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "the connection was cut"),
        (b"HTTP/1.1 200 OK\r\n", "the connection was cut"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{", "the connection was cut"),
        (b"SSH-2.0-x\r\n", "what came was no HTTP"),
        (whole("200 OK", b"not gzip", "Content-Encoding: gzip\r\n"), "the answer's compression is damaged"),
    ],
)
async def test_a_call_that_left_without_a_whole_answer_is_unknown(raw: bytes, words: str) -> None:
    async with listening(answering(raw)) as url:
        with pytest.raises(OutcomeUnknown, match=words):
            await get(url)


async def test_a_peer_that_never_answers_is_unknown() -> None:
    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with listening(hang) as url:
        with pytest.raises(OutcomeUnknown, match=r"no (whole )?answer came in time"):
            await get(url, timeout=0.2)


async def test_an_answer_that_trickles_is_cut_off_by_the_bound_on_the_whole() -> None:
    async def trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        while not writer.is_closing():
            writer.write(b".")
            await writer.drain()
            if await _ended(reader, within=0.05):
                return

    async with listening(trickle) as url:
        with pytest.raises(OutcomeUnknown):
            await get(url, timeout=0.4)


async def _ended(reader: asyncio.StreamReader, *, within: float) -> bool:
    try:
        return await asyncio.wait_for(reader.read(1), within) == b""
    except TimeoutError:
        return False


async def test_a_body_over_the_limit_is_cut_and_has_no_json() -> None:
    body = json.dumps({"message": "x" * MAX_BODY}).encode()
    async with listening(answering(whole("503 No", body))) as url:
        answer = await get(url)
    assert answer.status == 503
    assert len(answer.body) == MAX_BODY + 1
    assert answer.json() is None


async def test_a_small_answer_never_unpacks_into_a_large_one() -> None:
    packed = gzip.compress(b"0" * (MAX_BODY * 20))
    async with listening(answering(whole("200 OK", packed, "Content-Encoding: gzip\r\n"))) as url:
        assert len((await get(url)).body) == MAX_BODY + 1


async def test_a_transport_in_memory_is_read_like_any_other() -> None:
    transport = httpx2.MockTransport(lambda _: httpx2.Response(418, json={"error": "teapot"}))
    async with httpx2.AsyncClient(transport=transport) as client:
        answer = await call(client, "GET", "http://network.test/")
    assert (answer.status, answer.error_text()) == (418, "teapot")


async def test_a_redirect_is_an_answer_and_is_not_followed() -> None:
    async with listening(answering(whole("307 T", b"", "Location: http://127.0.0.1:9/\r\n"))) as url:
        answer = await get(url)
    assert (answer.status, answer.headers["LOCATION"]) == (307, "http://127.0.0.1:9/")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"error": "text_too_long", "message": "At most 500"}', "text_too_long: At most 500"),
        (b'{"error": {"message": "Nested", "code": 3}}', "Nested"),
        (b'{"error": "x", "error_description": "y"}', "x: y"),
        (b'{"error": "same", "message": "same"}', "same"),
        (b'{"detail": [{"loc": ["a"], "msg": "Field required"}]}', "Field required"),
        (b"<html><head><title>x</title></head><h1>502</h1><p>Bad &amp; gone</p></html>", "502 Bad & gone"),
        (b"plain\x00 \n text", "plain text"),
        (b"", "HTTP 502 Bad Gateway"),
        (b'{"a": 1}', '{"a": 1}'),
    ],
)
def test_the_words_of_an_error_are_one_readable_line(body: bytes, words: str) -> None:
    assert Response(502, {}, body).error_text() == words


def test_words_are_never_empty_and_fit_a_column() -> None:
    assert Response(799, {}, b"").error_text() == "HTTP 799"
    assert len(Response(500, {}, b"x" * 10_000).error_text()) == 500


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_no_body_makes_an_answer_raise(body: bytes) -> None:
    answer = Response(500, {}, body)
    answer.json()
    words = answer.error_text()
    assert 0 < len(words) <= 500
    assert "\x00" not in words


def test_deep_or_lone_surrogate_json_does_not_raise() -> None:
    assert Response(200, {}, b"[" * 100_000).json() is None
    Response(400, {}, b'{"message": "\\ud800"}').error_text().encode()


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({"Retry-After": "30"}, timedelta(seconds=30)),
        ({"retry-after": "0.65"}, timedelta(seconds=0.65)),
        ({"Retry-After": "Sun, 01 Mar 2026 12:01:00 GMT"}, timedelta(minutes=1)),
        ({"Retry-After": "Sun, 01 Mar 2026 11:01:00 GMT"}, timedelta(0)),
        ({"Retry-After": "-4"}, timedelta(0)),
        ({"Retry-After": "999999"}, MAX_WAIT),
        ({"RateLimit-Reset": str(int(NOW.timestamp()) + 90)}, timedelta(seconds=90)),
        ({"X-RateLimit-Reset": str((int(NOW.timestamp()) + 90) * 1000)}, timedelta(seconds=90)),
        ({"X-RateLimit-Reset": "2026-03-01T12:05:00.000Z"}, timedelta(minutes=5)),
        ({"X-RateLimit-Reset": "2026-03-01T12:05:00"}, timedelta(minutes=5)),
        ({"RateLimit-Reset": "45"}, timedelta(seconds=45)),
        ({"Retry-After": "soon", "RateLimit-Reset": "45"}, timedelta(seconds=45)),
        ({"Retry-After": "nan"}, None),
        ({"Retry-After": "1_0"}, None),
        ({"Retry-After": "1e400"}, None),
        ({}, None),
    ],
)
def test_the_wait_is_read_in_every_form_that_networks_use(headers: dict[str, str], wait: timedelta | None) -> None:
    assert retry_after(headers, NOW) == wait


@given(st.text(max_size=40))
def test_no_header_value_makes_the_wait_raise_or_exceed_a_day(value: str) -> None:
    wait = retry_after({"Retry-After": value}, NOW)
    assert wait is None or timedelta(0) <= wait <= MAX_WAIT


async def test_an_answer_in_countless_pieces_is_cut_and_others_have_their_turn() -> None:
    async def crumbs(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\n \r\n" * 200_000)
        await writer.drain()

    turns = 0

    async def neighbour() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with listening(crumbs) as url, httpx2.AsyncClient() as client:
        task = asyncio.create_task(neighbour())
        with pytest.raises(OutcomeUnknown, match="pieces"):
            await call(client, "GET", url)
        task.cancel()
    assert turns > 50


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32"])
def test_json_is_utf_8_and_nothing_else(encoding: str) -> None:
    assert Response(200, {}, '{"id": "1"}'.encode(encoding)).json() is None
    assert Response(200, {}, b'\xef\xbb\xbf{"id": "1"}').json() == {"id": "1"}


@pytest.mark.parametrize(("depth", "read"), [(10, True), (63, True), (66, False), (900, False), (100_000, False)])
def test_json_of_absurd_depth_is_none(depth: int, read: bool) -> None:
    body = b'{"a":' + b"[" * depth + b"]" * depth + b"}"
    assert (Response(200, {}, body).json() is not None) is read


def test_many_values_side_by_side_are_not_deep() -> None:
    assert Response(200, {}, json.dumps([{"a": []}] * 5000).encode()).json() is not None


def test_the_words_of_a_network_turn_nothing_around() -> None:
    assert Response(422, {}, json.dumps({"error": "txt.\u202egpj \u2066\x07no"}).encode()).error_text() == "txt.gpj no"


@pytest.mark.parametrize("length", [5, 7])
async def test_a_stream_of_another_length_is_not_sent(length: int) -> None:
    async def read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async def stream() -> AsyncIterator[bytes]:
        yield b"abc"
        yield b"def"

    async with listening(read) as url, httpx2.AsyncClient() as client:
        with pytest.raises(NotSent, match="another length"):
            await call(client, "POST", url, headers={"Content-Length": str(length)}, content=stream())
