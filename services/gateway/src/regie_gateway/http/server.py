"""uvicorn as a part of the service: the runtime has the signals, and stopping lets requests finish."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial

import uvicorn
from regie_chassis.process.listening import open_listener
from starlette.types import ASGIApp

from regie_gateway.http.connections import ConnectionLimits
from regie_gateway.http.protocol import GuardedProtocol

SETTINGS = "GATEWAY_HTTP"  # the beginning of the settings of host and port
BACKLOG = 2048
START_POLL = 0.01  # seconds
LOOK_EVERY = 1.0  # seconds between two looks at the connections
HEADERS = [("cache-control", "no-store"), ("x-content-type-options", "nosniff")]
"""Headers of every answer: it is for the caller alone, and its content type is to be believed."""


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Leaves the signals alone."""
        yield


class HttpServer:
    """Serves the application; the port is known once started."""

    name = "http server"

    def __init__(self, app: ASGIApp, *, host: str, port: int, drain: timedelta, limits: ConnectionLimits) -> None:
        self.host = host
        self.port = port
        self._config = uvicorn.Config(
            app,
            http=partial(GuardedProtocol, limits=limits),  # type: ignore[arg-type]  # called as the class would be
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            headers=HEADERS,
            proxy_headers=False,
            backlog=BACKLOG,
            timeout_graceful_shutdown=max(1, int(drain.total_seconds() * 0.8)),
        )
        self._server: _Server | None = None
        self._serving: asyncio.Task[None] | None = None
        self._looking: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        """Where clients reach it."""
        return f"http://{self.host}:{self.port}"

    async def start(self) -> None:
        """Listens, and returns once requests are answered. Raises WrongSetting."""
        listener = open_listener(self.host, self.port, prefix=SETTINGS)
        self.port = listener.getsockname()[1]
        self._server = _Server(self._config)
        self._serving = asyncio.create_task(self._server.serve(sockets=[listener]), name="http server")
        while not self._server.started:
            if self._serving.done():
                listener.close()
                self._serving.result()
            await asyncio.sleep(START_POLL)
        self._looking = asyncio.create_task(self._look_again_and_again(), name="http connections")

    def look(self, now: float) -> None:
        """Ends the connections on which something has lasted too long, by the event loop's time."""
        for connection in list(self._server.server_state.connections) if self._server else ():
            if isinstance(connection, GuardedProtocol):
                connection.look(now)

    async def _look_again_and_again(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY)
            self.look(asyncio.get_running_loop().time())

    async def stop(self) -> None:
        """Stops accepting and waits for open requests."""
        if self._server and self._serving:
            self._server.should_exit = True
            await self._serving
        if self._looking:
            self._looking.cancel()
