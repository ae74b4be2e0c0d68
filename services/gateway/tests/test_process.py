"""The gateway as a process of its own, through its command line."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import pytest
from joserfc.jwk import OKPKey
from regie_chassis.boundary.ids import new_id
from regie_local.nats import EmbeddedNats
from regie_local.postgres import EmbeddedPostgres
from regie_local.processes import free_port
from regie_local.testing.waiting import until

pytestmark = pytest.mark.processes

NOBODY = "127.0.0.1:9"


@pytest.fixture
async def environment(postgres_server: EmbeddedPostgres, nats_server: EmbeddedNats) -> AsyncIterator[dict[str, str]]:
    """The environment of a gateway without running backends."""
    name = f"p_{new_id().hex}"
    url = await postgres_server.create_database(name, owner=name, password="p")
    yield {
        **os.environ,
        "GATEWAY_DATABASE_URL": url,
        "GATEWAY_HTTP_PORT": str(free_port()),
        "GATEWAY_IDENTITY_PRIVATE_KEY": json.dumps(OKPKey.generate_key("Ed25519").as_dict(private=True)),
        "GATEWAY_TARGETS": json.dumps(dict.fromkeys(("scheduler", "publisher", "audience", "metrics"), NOBODY)),
        "NATS_URL": nats_server.url,
    }
    await postgres_server.drop_database(name)


async def command(environment: dict[str, str], *arguments: str) -> tuple[str, str]:
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "regie_gateway",
        *arguments,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, errors = await child.communicate()
    assert child.returncode == 0, errors.decode()
    return out.decode(), errors.decode()


@asynccontextmanager
async def serving(environment: dict[str, str], log: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    with log.open("wb") as stream:
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "regie_gateway", "serve", env=environment, stdout=stream, stderr=stream
        )
    try:
        yield child
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()


async def test_show_new_key_prints_one_key_for_a_new_workspace_and_for_one_that_exists(
    environment: dict[str, str],
) -> None:
    await command(environment, "migrate")
    asked = ("bootstrap", "--workspace", "newsroom", "--show-new-key")
    first, said_first = await command(environment, *asked)
    second, said_second = await command(environment, *asked)
    assert [len(printed.split()) for printed in (first, second)] == [1, 1]
    assert first != second
    assert ("created" in said_first, "exists" in said_second) == (True, True)


async def test_it_boots_alone_serves_its_first_key_and_drains_an_open_stream(
    environment: dict[str, str], tmp_path: Path
) -> None:
    await command(environment, "migrate")
    key = (await command(environment, "bootstrap", "--workspace", "newsroom"))[0].strip()
    assert (await command(environment, "bootstrap", "--workspace", "newsroom"))[0] == ""
    url = f"http://127.0.0.1:{environment['GATEWAY_HTTP_PORT']}"
    log = tmp_path / "gateway.log"
    async with serving(environment, log) as child, httpx2.AsyncClient(base_url=url, timeout=20) as client:
        client.headers["Authorization"] = f"Bearer {key}"
        await until(lambda: ready(client), timeout=60, what="readiness")
        assert (await client.get("/v1/workspace")).json()["name"] == "newsroom"
        behind = await client.get("/v1/posts")
        assert (behind.status_code, behind.json()["reason"]) == (503, "SERVICE_UNAVAILABLE")
        async with client.stream("GET", "/v1/events") as stream:
            lines = stream.aiter_lines()
            assert await anext(lines) == "retry: 1000"
            child.send_signal(signal.SIGTERM)
            async with asyncio.timeout(20):
                _rest = [line async for line in lines]
        async with asyncio.timeout(20):
            assert await child.wait() == 0
    assert key.rsplit("_", 1)[1] not in log.read_text()
    assert "Traceback" not in log.read_text()


async def test_a_taken_port_is_named_with_its_setting(environment: dict[str, str], tmp_path: Path) -> None:
    await command(environment, "migrate")
    log = tmp_path / "gateway.log"
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        async with serving(environment | {"GATEWAY_HTTP_PORT": str(port)}, log) as child, asyncio.timeout(60):
            assert await child.wait() == 2
    words = f"port {port} is taken by another program; give another, or 0 for a free one"
    assert log.read_text() == f"setting GATEWAY_HTTP_PORT: {words}\n"


async def ready(client: httpx2.AsyncClient) -> bool:
    try:
        return (await client.get("/readyz")).status_code == 200
    except httpx2.TransportError:
        return False
