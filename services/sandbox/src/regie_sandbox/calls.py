"""One call to the network: faults, the token, the operation, the log, the answer — in that order.

The log line and the effect are written together before anything is answered, even where the answer is then lost.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import parse_qsl

import orjson
from starlette.types import Receive, Scope, Send

from regie_sandbox.faults import Faults, Verdict
from regie_sandbox.journal import Journal
from regie_sandbox.network import Network, Post, time_text
from regie_sandbox.tokens import account_of

BODY_LIMIT = 10_000_000
ABORT = "regie_sandbox.abort"
"""The name under which the server offers to cut the connection of a request."""


class Dropped(ConnectionError):
    """The connection was to be dropped, and the server in use has no way to do it (the in-process transport)."""


@dataclass(slots=True)
class Call:
    """One call as the operations see it. `document` is the parsed JSON body, or None."""

    operation: str
    arrived: float
    headers: Mapping[str, str]
    query: Mapping[str, str]
    path: Mapping[str, str]
    body: bytes = b""
    document: object = None
    account: str = ""
    processing_polls: int | None = None

    @property
    def base_url(self) -> str:
        return f"http://{self.headers.get('host', '127.0.0.1')}"

    @property
    def token(self) -> str:
        scheme, _, token = self.headers.get("authorization", "").partition(" ")
        return token.strip() if scheme.lower() == "bearer" else ""

    def sent(self, name: str) -> str:
        """Returns a text of the JSON body for the log, or an empty one."""
        value = self.document.get(name) if isinstance(self.document, dict) else None
        return value if isinstance(value, str) else ""


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer of an operation, the change behind it, and its post."""

    status: int
    document: object
    change: Mapping[str, Any] | None = None
    effect: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    about: Post | None = None


def refusal(status: int, error: str, message: str, **headers: str) -> Reply:
    """An error in the form that this network uses."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(status, {"error": error, "message": message}, headers=named)


Act = Callable[[Network, Call], Reply]
"""An operation: reads the network and returns its answer and its change. Changes nothing itself."""


class CallLog:
    """Every call since the start or the last clearing, oldest first; sequence numbers never start again."""

    def __init__(self) -> None:
        self._lines: list[tuple[int, str, bytes]] = []
        self.last = 0

    def add(self, sequence: int, operation: str, line: bytes) -> None:
        self._lines.append((sequence, operation, line))
        self.last = sequence

    def clear(self) -> None:
        self._lines.clear()

    def lines(self, *, operation: str | None, after: int) -> Iterator[bytes]:
        """Yields the JSON of the calls with a greater sequence number, of one operation if given."""
        for sequence, name, line in self._lines:
            if sequence > after and operation in (None, name):
                yield line


class World:
    """All that a process holds: the network, the log of calls to it, and the faults in force."""

    def __init__(self, network: Network, journal: Journal) -> None:
        self.network = network
        self.log = CallLog()
        self.faults = Faults()
        self._journal = journal
        for line in journal.replay():
            self._take(line["call"], orjson.dumps(line["call"]), line["change"])

    def record(self, call: Call, answered: int | str, reply: Reply) -> None:
        """Writes the call down, then makes its change happen. Nothing may be answered before."""
        entry = {
            "sequence": self.log.last + 1,
            "time": time_text(call.arrived),
            "operation": call.operation,
            "account": call.account or None,
            "key": reply.about.key if reply.about else call.sent("key") or call.query.get("key"),
            "text": reply.about.text if reply.about else call.sent("text") or None,
            "effect": reply.effect,
            "answered": answered,
            "traceparent": call.headers.get("traceparent"),
        }
        line = orjson.dumps(entry)
        self._journal.append(b'{"call":' + line + b',"change":' + orjson.dumps(reply.change) + b"}")
        self._take(entry, line, reply.change)

    def clear_log(self) -> None:
        """Empties the log; the posts on the network stay."""
        self._journal.append(b'{"call":null,"change":null}')
        self.log.clear()

    def _take(self, entry: Mapping[str, Any] | None, line: bytes, change: Mapping[str, Any] | None) -> None:
        if entry is None:
            self.log.clear()
            return
        self.log.add(entry["sequence"], entry["operation"], line)
        if change is not None:
            self.network.apply(change)


class Operation:
    """An ASGI endpoint for one operation of the network."""

    def __init__(self, world: World, name: str, act: Act, *, needs_token: bool = True) -> None:
        self._world = world
        self._name = name
        self._act = act
        self._needs_token = needs_token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        call = _call(self._name, scope)
        unreadable = await _read(call, receive)
        if unreadable is not None:
            self._world.record(call, unreadable.status, unreadable)
            await _answer(send, unreadable)
            return
        verdict = self._world.faults.take(self._name, call.sent("text"))
        call.processing_polls = verdict.processing_polls
        if verdict.latency_ms:
            await asyncio.sleep(verdict.latency_ms / 1000)
        reply = _spoilt_before(verdict, call) or self._outcome(verdict, call)
        response: Reply | str = _spoilt_after(verdict) or reply
        self._world.record(call, response if isinstance(response, str) else response.status, reply)
        if verdict.latency_after_ms:
            await asyncio.sleep(verdict.latency_after_ms / 1000)
        if isinstance(response, Reply):
            await _answer(send, response)
        elif response == "dropped":
            await _drop(scope, receive)
        else:
            await _gone(receive)

    def _outcome(self, verdict: Verdict, call: Call) -> Reply:
        """Returns the network's reply where the fault, if any, lets the call through."""
        if self._needs_token:
            account, token = account_of(call.token), call.token
            if account is None:
                return refusal(401, "token_invalid", "Send Authorization: Bearer sandbox-<handle>.")
            call.account = account
            if verdict.ending == "expire_tokens":
                return replace(_expired(), change={"expired": token})
            if token.startswith("expired-") or self._world.network.has_expired(token):
                return _expired()
        if verdict.ending == "reject" and verdict.rule and verdict.rule.reject:
            return refusal(422, "rejected", verdict.rule.reject)
        return self._act(self._world.network, call)


def _expired() -> Reply:
    return refusal(401, "token_expired", "The access token has expired; get another at /api/v1/token/refresh.")


def _spoilt_before(verdict: Verdict, call: Call) -> Reply | None:
    """The answer in the place of the operation, where a fault keeps the call from it."""
    rule = verdict.rule
    if rule is None:
        return None
    call.account = account_of(call.token) or ""
    if rule.fail_before is not None:
        return refusal(rule.fail_before, "unavailable", "Out of order; nothing was done.")
    if rule.rate_limit is not None:
        wait = f"{rule.rate_limit:g}"
        return refusal(429, "rate_limited", f"Too many calls; wait {wait} seconds.", retry_after=wait)
    if rule.drop_before or rule.hang:
        return Reply(0, None)
    return None


def _spoilt_after(verdict: Verdict) -> Reply | str | None:
    """The replacement of the true answer: another reply, or the words `dropped` and `hanging`."""
    rule = verdict.rule
    if rule is None:
        return None
    if rule.drop_before or rule.drop_after:
        return "dropped"
    if rule.hang or rule.hang_after:
        return "hanging"
    if rule.fail_after is not None:
        return refusal(rule.fail_after, "unavailable", "Something went wrong.")
    return None


def _call(operation: str, scope: Scope) -> Call:
    return Call(
        operation=operation,
        arrived=time.time(),
        headers={name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]},
        query=dict(parse_qsl(scope["query_string"].decode("latin-1"))) if scope["query_string"] else {},
        path=scope.get("path_params") or {},
    )


async def _read(call: Call, receive: Receive) -> Reply | None:
    """Reads the body into the call; returns a refusal where the body is too large or was cut off."""
    chunks, size, more = [], 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return refusal(400, "body_cut", "The client went away in the middle of its call.")
        chunk: bytes = message.get("body", b"")
        chunks.append(chunk)
        size += len(chunk)
        if size > BODY_LIMIT:
            return refusal(413, "too_large", f"At most {BODY_LIMIT} bytes.")
        more = message.get("more_body", False)
    call.body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
    if call.body and call.operation != "media":
        with suppress(orjson.JSONDecodeError):
            call.document = orjson.loads(call.body)
    return None


async def _answer(send: Send, reply: Reply) -> None:
    body = b"" if reply.document is None else orjson.dumps(reply.document)
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    headers += [(name.encode(), value.encode("latin-1")) for name, value in reply.headers.items()]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _drop(scope: Scope, receive: Receive) -> None:
    abort = (scope.get("extensions") or {}).get(ABORT)
    if abort is None:
        raise Dropped("This server cannot drop a connection")
    abort["now"]()
    await _gone(receive)


async def _gone(receive: Receive) -> None:
    """Waits, without an answer, until the client has gone away."""
    while (await receive())["type"] != "http.disconnect":
        pass
