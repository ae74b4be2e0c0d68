"""Real social networks on the loopback, started once for the whole session and stopped at its end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from regie_local.postgres import EmbeddedPostgres
from regie_local.processes import ChildProcess, answers, free_port
from regie_local.testing.bluesky import JWT_SECRET, BlueskyNetwork, BlueskyProxy

HERE = Path(__file__).parent
START_TIMEOUT = 60.0  # seconds; six are usual


@pytest.fixture
def bluesky_proxy(bluesky_network: BlueskyNetwork) -> Iterator[BlueskyProxy]:
    """A way to the PDS on which answers can be lost."""
    proxy = BlueskyProxy(bluesky_network)
    yield proxy
    proxy.close()


@pytest.fixture(scope="session")
def bluesky_network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BlueskyNetwork]:
    """A whole Bluesky network of the session's own."""
    installed = _installed_bluesky()
    folder = tmp_path_factory.mktemp("bluesky")
    with ExitStack() as running:
        postgres = EmbeddedPostgres(folder / "postgres", fsync=False)
        running.callback(postgres.stop)
        postgres.start()
        redis_port = free_port()
        redis = _redis(installed, folder, redis_port)
        running.callback(redis.stop)
        redis.start()
        redis.wait_until(lambda: answers(redis_port), timeout=START_TIMEOUT)
        endpoints_file = folder / "endpoints.json"
        node = _node(installed, folder, endpoints_file, postgres, redis_port)
        running.callback(node.stop)
        node.start()
        node.wait_until(endpoints_file.exists, timeout=START_TIMEOUT)
        network = BlueskyNetwork(json.loads(endpoints_file.read_text()))
        running.callback(network.close)
        yield network


def _installed_bluesky() -> Path:
    command = [sys.executable, str(HERE / "install.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        missing = "The real Bluesky network is not installed: run make test-networks"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    return Path(done.stdout.strip())


def _redis(installed: Path, folder: Path, port: int) -> ChildProcess:
    options = ["--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no", "--dir", str(folder)]
    return ChildProcess("Redis", [str(installed / "redis" / "redis-server"), *options], log=folder / "redis.log")


def _node(
    installed: Path, folder: Path, endpoints_file: Path, postgres: EmbeddedPostgres, redis_port: int
) -> ChildProcess:
    [program] = (installed / "node" / "node_modules").glob("node-*/bin/node")
    scripts = HERE / "bluesky"
    command = [str(program), "--require", str(scripts / "loopback.cjs"), str(scripts / "network.mjs")]
    env = {
        "DB_POSTGRES_URL": postgres.url().replace("+asyncpg", ""),
        "JWT_SECRET": JWT_SECRET,
        "REDIS_HOST": f"127.0.0.1:{redis_port}",
        "TMPDIR": str(folder),
        "LOG_ENABLED": "false",
        "NODE_ENV": "test",
    }
    return ChildProcess("Bluesky", [*command, str(installed), str(endpoints_file)], log=folder / "bluesky.log", env=env)
