"""HTTP/1.1 from strangers: uvicorn's protocol with bounds on what a client may send, and on how slowly.

uvicorn takes request heads of any size, waits for ever for their rest, and answers its refusals in plain text.
Time is not watched by timers of each request but by one look a second at all connections (`look`).
"""

from __future__ import annotations

import asyncio
from typing import Any

import httptools
import orjson
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from regie_gateway.http.connections import ConnectionLimits
from regie_gateway.http.problems import PROBLEM, problem_body

MAX_HEAD = 64 * 1024  # bytes of a head; also of trailers, and of anything else that is no part of a body
MAX_URL = 16 * 1024  # bytes
MAX_HEADERS = 100
MAX_PIPELINED = 16  # requests that wait for the answer of an earlier one on their connection

HEAD_TIMEOUT = 10.0  # seconds, from the first byte of a head, or from the connection, to the head's end
BODY_TIMEOUT = 60.0  # seconds for a body, and a second more for each BODY_RATE that has come
BODY_RATE = 64 * 1024  # bytes a second
STALL_TIMEOUT = 60.0  # seconds in which nothing of a body comes
UNREAD_TIMEOUT = 60.0  # seconds in which a client takes nothing of its answer
LINGER_TIMEOUT = 2.0  # seconds in which a refused client may still send, so that it sees the refusal
LATE_BODY_TIMEOUT = 5.0  # seconds for the rest of a body that has been answered already

TOO_LONG = (431, "REQUEST_HEADER_FIELDS_TOO_LARGE", f"a head may have {MAX_HEAD} bytes and {MAX_HEADERS} fields")
URL_TOO_LONG = (414, "REQUEST_URI_TOO_LONG", f"an address may have {MAX_URL} bytes")
MALFORMED = (400, "BAD_REQUEST", "this is no HTTP/1.1 request")
HOST = (400, "BAD_REQUEST", "send exactly one Host field")
TOO_SLOW = (408, "REQUEST_TIMEOUT", "the request did not come in time; send it again, and faster")
FULL = (503, "SERVICE_UNAVAILABLE", "there are too many connections; close some, or try again in a moment")

Refusal = tuple[int, str, str]


class _Refused(Exception):  # ends the parser's work from inside a callback
    """The input is refused; `GuardedProtocol._refusal` holds the reason."""


class GuardedProtocol(HttpToolsProtocol):
    """One connection. Its `phase` is `head` (also before the first byte), `body` or `answer`."""

    def __init__(self, *arguments: Any, limits: ConnectionLimits, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._limits = limits
        self._address = ""
        self._counted = False
        self._phase = "head"
        self._since = self.loop.time()  # when the phase began
        self._begun = False  # whether a byte of this head has come
        self._unproductive = 0  # bytes since the last that meant something to the application
        self._moved = False
        self._in_head = True
        self._hosts = 0
        self._body_size = 0
        self._body_since = 0.0  # when the last of it came
        self._unsent = 0
        self._unsent_since = 0.0
        self._closing_since = 0.0
        self._refusal: Refusal = MALFORMED
        self._lingering = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._since = self.loop.time()
        self._address = self.client[0] if self.client else ""
        self._counted = True
        if not self._limits.open(self._address):
            self._refuse(FULL)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._counted:
            self._counted = False
            self._limits.close(self._address)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        if self._lingering:
            return
        if self._phase == "head" and not self._begun:
            self._begun = True
            self._since = self.loop.time()
        if len(data) <= MAX_HEAD:
            self._feed(data)
            return
        for start in range(0, len(data), MAX_HEAD):
            if self._lingering or self.transport.is_closing():
                return
            self._feed(data[start : start + MAX_HEAD])

    def _feed(self, data: bytes) -> None:
        self._moved = False
        self._refusal = MALFORMED
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            return  # nothing is upgraded to; the request is answered as any other
        except httptools.HttpParserError:
            self._refuse(self._refusal)
            return
        if self._moved:
            self._unproductive = 0
            return
        self._unproductive += len(data)
        if self._unproductive > MAX_HEAD:
            self._refuse(TOO_LONG)

    # What the parser calls.

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True
        self._hosts = 0

    def on_url(self, url: bytes) -> None:
        self.url += url
        if len(self.url) > MAX_URL:
            self._refusal = URL_TOO_LONG
            raise _Refused

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_head:
            return  # a trailer field, which is no header: a proxy that filters headers has not seen it
        name, value = name.lower(), value.strip(b" \t")  # blanks on either side are no part of it (RFC 9110, 5.5)
        if name == b"host":
            self._hosts += 1
        elif name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))
        if len(self.headers) > MAX_HEADERS:
            self._refusal = TOO_LONG
            raise _Refused

    def on_headers_complete(self) -> None:
        if self._hosts != 1 and (self._hosts > 1 or self.parser.get_http_version() == "1.1"):
            self._refusal = HOST
            raise _Refused
        if len(self.pipeline) >= MAX_PIPELINED:
            raise _Refused
        self._in_head = False
        self._enter("body")
        self._body_size = 0
        self._body_since = self._since
        if self._limits.proxies.trusts(self._address):
            self.scope["client"] = (self._forwarded(), 0)
        super().on_headers_complete()

    def _forwarded(self) -> str:
        fields = [value.decode("latin-1") for name, value in self.headers if name == b"x-forwarded-for"]
        return self._limits.proxies.client_of(self._address, ",".join(fields))

    def on_body(self, body: bytes) -> None:
        self._moved = True
        self._body_size += len(body)
        self._body_since = self.loop.time()
        super().on_body(body)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        # An answer that went out before the request's end is over, and the next head may come.
        self._enter("head" if self.cycle.response_complete else "answer")

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.pipeline:
            self.flow.pause_reading()  # there is work enough
        elif self._phase == "answer":
            self._enter("head")
        else:
            self._since = self.loop.time()  # the rest of its body may still come

    def _enter(self, phase: str) -> None:
        self._moved = True
        self._phase = phase
        self._since = self.loop.time()
        self._begun = False

    # What must not last for ever.

    def look(self, now: float) -> None:
        """Ends the connection when something has lasted too long; called about once a second."""
        if self.transport.is_closing():
            self._closing_since = self._closing_since or now
            if now - self._closing_since > LINGER_TIMEOUT:
                self.transport.abort()
        elif self._lingering:
            if now - self._since > LINGER_TIMEOUT:
                self.transport.close()
        elif self.flow.write_paused:
            self._look_at_the_reader(now)
        elif self._phase == "head":
            self._look_at_the_head(now)
        elif self._phase == "body":
            self._look_at_the_body(now)

    def _look_at_the_head(self, now: float) -> None:
        if now - self._since <= HEAD_TIMEOUT or (self.cycle and not self.cycle.response_complete):
            return
        if self._begun:
            self._refuse(TOO_SLOW)
        elif self.timeout_keep_alive_task is None:
            self.transport.close()  # nothing came at all

    def _look_at_the_body(self, now: float) -> None:
        if self.cycle.response_complete:
            if now - self._since > LATE_BODY_TIMEOUT:
                self.transport.close()
        elif self.flow.read_paused:
            self._since = self._body_since = now  # it is us who wait
        elif now - self._since > BODY_TIMEOUT + self._body_size / BODY_RATE or now - self._body_since > STALL_TIMEOUT:
            self._refuse(TOO_SLOW)

    def _look_at_the_reader(self, now: float) -> None:
        unsent = self.transport.get_write_buffer_size()
        if unsent != self._unsent or not self._unsent_since:
            self._unsent, self._unsent_since = unsent, now
        elif now - self._unsent_since > UNREAD_TIMEOUT:
            self.transport.abort()

    # What is refused before the application sees it.

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002  # uvicorn's own words are plain text
        self._refuse(MALFORMED)

    def _refuse(self, refusal: Refusal) -> None:
        """Answers in the application's place where that is still possible, and lets the connection end."""
        if self.transport.is_closing() or self._lingering:
            return
        self._lingering = True
        self._since = self.loop.time()
        self.pipeline.clear()
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            # An answer is under way, so there is no place for another; only the request that it was for may be
            # refused, and only before its answer has begun.
            cycle.disconnected = True
            cycle.message_event.set()
            if cycle.response_started or self._phase != "body":
                self.transport.close()
                return
        status, reason, detail = refusal
        body = orjson.dumps(problem_body(status, reason, detail))
        head = (
            b"content-type: " + PROBLEM.encode(),
            b"content-length: %d" % len(body),
            b"cache-control: no-store",
            b"x-content-type-options: nosniff",
            *((b"retry-after: 1",) if status == FULL[0] else ()),
            b"connection: close",
        )
        self.transport.write(STATUS_LINE[status] + b"\r\n".join(head) + b"\r\n\r\n" + body)
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.flow.resume_reading()

    def eof_received(self) -> None:
        if self._lingering:
            self.transport.close()
