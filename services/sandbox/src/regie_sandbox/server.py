"""Runs the application under uvicorn, with a way to cut a connection without an answer."""

from __future__ import annotations

import asyncio
import errno
import socket

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from regie_sandbox.app import build
from regie_sandbox.calls import ABORT
from regie_sandbox.settings import Settings, WrongSetting

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
    """Answers until SIGTERM or SIGINT. Calls that hang on purpose get a second to end.

    Raises WrongSetting where it cannot listen, or where its data cannot be kept.
    """
    listener = _open_listener(settings.host, settings.port)
    config = uvicorn.Config(
        _build(settings),
        http=DroppingProtocol,
        loop="uvloop",
        lifespan="off",
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    uvicorn.Server(config).run(sockets=[listener])


def _build(settings: Settings) -> Starlette:
    try:
        if settings.data:
            settings.data.mkdir(parents=True, exist_ok=True)
        return build(settings.data, allowed_hosts=settings.allowed_hosts)
    except OSError as error:
        raise WrongSetting(
            f"SANDBOX_DATA: no data can be kept there ({error.strerror}); give a folder where you may write"
        ) from error


def _open_listener(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except (OSError, UnicodeError) as error:
        listener.close()
        raise _refusal(error, port) from error
    return listener


def _refusal(error: OSError | UnicodeError, port: int) -> WrongSetting:
    number = error.errno if isinstance(error, OSError) else None
    if number == errno.EADDRINUSE:
        return WrongSetting(f"SANDBOX_PORT: port {port} is taken by another program; give another, or 0 for a free one")
    if number in {errno.EACCES, errno.EPERM}:
        return WrongSetting(f"SANDBOX_PORT: this user may not listen on port {port}; give one above 1023")
    return WrongSetting("SANDBOX_HOST: this is no address of this machine; give one, as in 127.0.0.1 or 0.0.0.0")
