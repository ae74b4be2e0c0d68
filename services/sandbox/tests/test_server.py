"""The server waits for no request for ever."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest
import uvicorn
from regie_sandbox.app import build
from regie_sandbox.server import DroppingProtocol
from uvicorn.server import ServerState


class Impatient(DroppingProtocol):
    request_timeout = 0.1


BODY = (
    b"POST /api/v1/posts HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer sandbox-ada\r\nContent-Length: 9\r\n\r\nx"
)


@pytest.mark.parametrize("sent", [b"", b"GET / HT", BODY], ids=["nothing", "head", "body"])
async def test_a_request_that_does_not_become_whole_ends_its_connection(sent: bytes) -> None:
    config = uvicorn.Config(build(), lifespan="off", log_config=None)
    config.load()
    server = await asyncio.get_running_loop().create_server(
        lambda: Impatient(config, ServerState(), {}), "127.0.0.1", 0
    )
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(sent)
        async with asyncio.timeout(20):
            with suppress(ConnectionResetError):
                assert await reader.read() == b""
        writer.close()
