"""Runs the application under uvicorn, with a way to cut a connection without an answer."""

from __future__ import annotations

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from regie_sandbox.app import build
from regie_sandbox.calls import ABORT
from regie_sandbox.settings import Settings

GRACE_SECONDS = 1


class DroppingProtocol(HttpToolsProtocol):
    """Offers to every request the means to abort its connection."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
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
