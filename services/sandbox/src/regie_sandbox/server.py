"""Runs the application under uvicorn, with a way to cut a connection without an answer."""

from __future__ import annotations

import asyncio

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from regie_sandbox.app import build
from regie_sandbox.calls import ABORT
from regie_sandbox.settings import Settings

GRACE_SECONDS = 1
REQUEST_TIMEOUT = 30.0  # seconds until a request is whole


class DroppingProtocol(HttpToolsProtocol):
    """Offers to every request the means to abort its connection, and waits for none of them for ever."""

    request_timeout = REQUEST_TIMEOUT
    _waiting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def on_message_complete(self) -> None:
        self._stop_waiting()
        super().on_message_complete()

    def _wait(self) -> None:
        self._stop_waiting()
        self._waiting = self.loop.call_later(self.request_timeout, self.transport.abort)

    def _stop_waiting(self) -> None:
        if self._waiting:
            self._waiting.cancel()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._wait()
        self.scope["extensions"] = {ABORT: {"now": self.transport.abort}}


def run(settings: Settings) -> None:
    """Answers until SIGTERM or SIGINT. Calls that hang on purpose get a second to end."""
    uvicorn.run(
        build(settings.data, allowed_hosts=settings.allowed_hosts),
        host=settings.host,
        port=settings.port,
        http=DroppingProtocol,
        loop="uvloop",
        lifespan="off",
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
