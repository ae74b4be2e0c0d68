"""One HTTP call to a network, with its outcome as an error of the contract.

Shared by the connectors that speak HTTP. It only separates "nothing left" from "outcome unknown"; each connector
knows the meaning of its statuses.
"""

from __future__ import annotations

import asyncio
import html
import json
import re
import zlib
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from http import HTTPStatus

import httpx2

from regie_networks.bounds import MAX_WAIT, sentence
from regie_networks.errors import NotSent, OutcomeUnknown

MAX_BODY = 1_000_000
"""Bytes of an answer that are kept; a longer one is cut and then has no JSON."""
MAX_CHUNKS = 5_000
"""Chunks of a response; more are cut off like surplus bytes. A chunk costs the same however few bytes it has."""
CHUNKS_AT_ONCE = 64
"""That are taken before others have a turn: a reading of 64 KiB can hold ten thousand."""
MAX_DEPTH = 64
MAX_ERROR_TEXT = 500
_NUMBER = re.compile(r"-?[0-9]{1,30}(?:\.[0-9]{1,30})?")

_EVENTS: Mapping[type[Exception], str] = {
    httpx2.ConnectError: "no connection could be made",
    httpx2.ConnectTimeout: "no connection was made in time",
    httpx2.PoolTimeout: "all connections to it were in use",
    httpx2.ReadTimeout: "no answer came in time",
    httpx2.WriteTimeout: "the request could not be sent in time",
    httpx2.RemoteProtocolError: "the connection was cut, or what came was no HTTP",
    httpx2.ReadError: "the connection was cut before the answer",
    httpx2.WriteError: "the connection was cut while sending",
    TimeoutError: "no whole answer came in time",
    zlib.error: "the answer's compression is damaged",
}
_NOT_SENT = (
    httpx2.ConnectError,
    httpx2.ConnectTimeout,
    httpx2.PoolTimeout,
    httpx2.ProxyError,
    httpx2.UnsupportedProtocol,
)


@dataclass(frozen=True, slots=True)
class Response:
    """A network's response. `headers` are looked up in any case.

    `secrets` are those of the request; a secret that the network repeats in an error is left out.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)

    def json(self) -> object | None:
        """Returns the parsed body, or None where it is no JSON or was cut. Never raises."""
        if len(self.body) > MAX_BODY:
            return None
        try:
            # As UTF-8, which is what JSON is in (RFC 8259): read as UTF-16, a body would grow by half.
            parsed: object = json.loads(self.body.decode("utf-8-sig"))
        except (ValueError, RecursionError):
            return None
        return None if self._is_deep(parsed) else parsed

    def _is_deep(self, parsed: object) -> bool:
        """True where a body nests deeper than any network's, and deeper than its copies could hold."""
        if self.body.count(b"[") + self.body.count(b"{") <= MAX_DEPTH:
            return False
        level = [parsed]
        for _depth in range(MAX_DEPTH):
            level = [
                child
                for one in level
                if isinstance(one, dict | list)
                for child in (one.values() if isinstance(one, dict) else one)
                if isinstance(child, dict | list)
            ]
            if not level:
                return False
        return True

    def error_text(self) -> str:
        """Returns the network's own words about an error: one line of at most 500 characters, never empty."""
        phrases = list(dict.fromkeys(_phrases(self.json(), depth=3)))
        line = _one_line(self._without_secrets(": ".join(phrases)))
        return line or _one_line(self._without_secrets(_plain_text(self.body))) or _status_line(self.status)

    def _without_secrets(self, text: str) -> str:
        for secret in self.secrets:
            text = text.replace(secret, "…")
        return text


async def call(
    client: httpx2.AsyncClient,
    method: str,
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    json: object = None,
    content: bytes | AsyncIterable[bytes] | None = None,
    params: Mapping[str, str] | None = None,
    timeout: float = 20.0,
    secrets: Sequence[str] = (),
) -> Response:
    """Makes one call and returns the response, of any status; redirects are not followed.

    A stream as `content` needs its length in the header Content-Length, and ends in `NotSent` where the lengths differ.
    `secrets` are those of the body; the credentials of the header Authorization are known to be secret.

    Bounded as a whole by `timeout` seconds, so that a slow response ends too. Raises `NotSent` where nothing reached
    the network and `OutcomeUnknown` where the call left and no whole response came back.
    """
    request = _request(client, method, url, headers, json, content, params, timeout)
    hidden = tuple(filter(None, (*secrets, request.headers.get("authorization", "").rpartition(" ")[2])))
    try:
        async with asyncio.timeout(timeout):
            response = await client.send(request, stream=True, follow_redirects=False)
            try:
                return Response(response.status_code, response.headers, await _body(response), hidden)
            finally:
                await response.aclose()
    except _NOT_SENT as error:
        raise NotSent(_failure(request, error)) from error
    except (httpx2.HTTPError, httpx2.StreamError, TimeoutError, OSError, zlib.error) as error:
        raise OutcomeUnknown(_failure(request, error)) from error


def retry_after(headers: Mapping[str, str], now: datetime) -> timedelta | None:
    """Returns how long the network asks to wait (0 to 24 hours), or None where it names no time.

    Reads `Retry-After` (seconds or an HTTP date), then `RateLimit-Reset` and `X-RateLimit-Reset` (seconds from
    now, epoch in seconds or milliseconds, or ISO 8601).
    """
    lowered = {name.lower(): value.strip() for name, value in headers.items()}
    for name in ("retry-after", "ratelimit-reset", "x-ratelimit-reset"):
        seconds = _seconds_until(lowered.get(name, ""), now)
        if seconds is not None:
            return timedelta(seconds=min(max(seconds, 0.0), MAX_WAIT.total_seconds()))
    return None


def _request(
    client: httpx2.AsyncClient,
    method: str,
    url: str,
    headers: Mapping[str, str] | None,
    json: object,
    content: bytes | AsyncIterable[bytes] | None,
    params: Mapping[str, str] | None,
    timeout: float,
) -> httpx2.Request:
    # A quarter each for the pool and the connection: both end before the whole does, and are then known as not sent.
    bounds = httpx2.Timeout(timeout, connect=timeout / 4, pool=timeout / 4)
    # Compression is declined, so that a small answer cannot unpack into a large one.
    sent_headers = {"Accept": "application/json", "Accept-Encoding": "identity", **(headers or {})}
    if any(re.search(r"[\x00-\x1f\x7f]", value) for value in sent_headers.values()):
        raise NotSent("A header holds a control character: nothing was sent")
    if content is not None and not isinstance(content, bytes):
        content = _exactly(content, int(sent_headers["Content-Length"]))
    try:
        return client.build_request(
            method, url, headers=sent_headers, json=json, content=content, params=params, timeout=bounds
        )
    except (httpx2.InvalidURL, ValueError, TypeError) as error:
        raise NotSent(f"The request could not be built ({type(error).__name__}): nothing was sent") from error


async def _exactly(content: AsyncIterable[bytes], length: int) -> AsyncIterator[bytes]:
    sent = 0
    async for chunk in content:
        sent += len(chunk)
        if sent > length:
            break
        yield chunk
    if sent != length:
        raise NotSent("The stored file has another length than it should: it was not sent whole")


async def _body(response: httpx2.Response) -> bytes:
    """Reads at most one byte more than the limit, which marks the body as cut."""
    if response.is_stream_consumed:  # a transport in memory answers with a body that is already read
        return response.content[: MAX_BODY + 1]
    body, chunks = bytearray(), 0
    async for chunk in response.aiter_raw():
        body += chunk
        chunks += 1
        if chunks > MAX_CHUNKS:
            raise OutcomeUnknown(f"The answer came in more than {MAX_CHUNKS} pieces")
        if len(body) > MAX_BODY:
            break
        if chunks % CHUNKS_AT_ONCE == 0:
            await asyncio.sleep(0)
    if response.headers.get("content-encoding", "").lower() in ("gzip", "x-gzip", "deflate"):
        return zlib.decompressobj(wbits=47).decompress(bytes(body), MAX_BODY + 1)
    return bytes(body[: MAX_BODY + 1])


def _failure(request: httpx2.Request, error: Exception) -> str:
    # The host alone: paths and queries may carry what logs must not hold.
    return f"{request.method} to {request.url.host}: {_EVENTS.get(type(error), 'the connection failed')}"


def _phrases(value: object, depth: int) -> Iterable[str]:
    """Yields the sentences of the usual error bodies, outermost first."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list) and depth > 0:
        for item in value[:3]:
            yield from _phrases(item, depth - 1)
    elif isinstance(value, dict) and depth > 0:
        for name in ("error", "title", "message", "msg", "error_description", "detail", "errors"):
            yield from _phrases(value.get(name), depth - 1)


def _plain_text(body: bytes) -> str:
    text = body[:8_000].decode("utf-8", "replace")
    if "<" not in text:
        return text
    text = re.sub(r"(?is)<(script|style|head)\b.*?</\1\s*>", " ", text)
    return html.unescape(re.sub(r"<[^>]*>", " ", text))


def _one_line(text: str) -> str:
    """Removes characters that a database, a log or a page cannot hold: controls, bidi overrides, surrogates."""
    return sentence(re.sub(r"[\x00-\x1f\x7f-\x9f]", " ", text[: MAX_ERROR_TEXT * 4]), MAX_ERROR_TEXT)


def _status_line(status: int) -> str:
    try:
        return f"HTTP {status} {HTTPStatus(status).phrase}"
    except ValueError:
        return f"HTTP {status}"


def _seconds_until(value: str, now: datetime) -> float | None:
    if not _NUMBER.fullmatch(value):
        return _seconds_until_date(value, now)
    number = float(value)
    if number < 100_000_000:
        return number
    epoch = number / 1000 if number > 100_000_000_000 else number
    return epoch - now.timestamp()


def _seconds_until_date(value: str, now: datetime) -> float | None:
    for parse in (datetime.fromisoformat, parsedate_to_datetime):
        try:
            moment = parse(value)
        except (ValueError, TypeError, OverflowError):
            continue
        aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return (aware - now).total_seconds()
    return None
