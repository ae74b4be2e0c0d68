"""A transport in front of a fake server: it keeps every request, and spoils the calls that a test chooses."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import httpx2

Respond = Callable[[httpx2.Request], httpx2.Response]


@dataclass(frozen=True, slots=True)
class CallPattern:
    """The calls of one kind: their method and a pattern of their path."""

    method: str
    path: str

    def matches(self, request: httpx2.Request) -> bool:
        return request.method == self.method and re.fullmatch(self.path, request.url.path) is not None


ANY_CALL = CallPattern("", "")


@dataclass(slots=True)
class _Fault:
    call: CallPattern
    respond: Respond
    after_effect: bool
    times: int

    def matches(self, request: httpx2.Request) -> bool:
        return self.times > 0 and (self.call is ANY_CALL or self.call.matches(request))


class FaultyTransport(httpx2.AsyncBaseTransport):
    """Hands requests on to `inner`. `requests` are all that came."""

    def __init__(self, inner: httpx2.AsyncBaseTransport) -> None:
        self._inner = inner
        self._faults: list[_Fault] = []
        self.requests: list[httpx2.Request] = []

    def spoil(self, call: CallPattern, respond: Respond, *, after_effect: bool = False, times: int = 1) -> None:
        """Answers the next matching calls by `respond`: in the server's place, or once the server has acted."""
        self._faults.append(_Fault(call, respond, after_effect, times))

    def sent(self, call: CallPattern) -> list[httpx2.Request]:
        """Returns the matching requests, in order."""
        return [request for request in self.requests if call.matches(request)]

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        await request.aread()
        self.requests.append(request)
        fault = next((fault for fault in self._faults if fault.matches(request)), None)
        if fault is None:
            return await self._inner.handle_async_request(request)
        fault.times -= 1
        if fault.after_effect:
            await (await self._inner.handle_async_request(request)).aread()
        return fault.respond(request)


def answering(status: int, body: bytes = b"", **headers: str) -> Respond:
    """Returns a function that answers with these, as from a socket."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda _request: httpx2.Response(status, headers=sent, stream=httpx2.ByteStream(body))


def raising(error: Exception) -> Respond:
    """Returns a function that fails as a connection does."""

    def respond(_request: httpx2.Request) -> httpx2.Response:
        raise error

    return respond
