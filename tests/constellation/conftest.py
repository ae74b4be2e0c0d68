"""Whole installations of processes for the tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from regie_local.local_cluster import LocalCluster

QUIET = {"publisher": {"PUBLISHER_QUIET_SECONDS": "5"}}
"""Nothing stands between a publisher and its sandbox on one machine that could carry a call for longer."""


@pytest.fixture(scope="session")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """One of everything, for tests that break nothing."""
    with LocalCluster(tmp_path_factory.mktemp("installation"), fsync=False, env=QUIET) as running:
        yield running


@pytest.fixture
async def user(installation: LocalCluster, user_of: Any) -> AsyncIterator[Any]:
    async with user_of(installation) as someone:
        await someone.sandbox.delete("/admin/faults")
        yield someone


@pytest.fixture
def breakable(tmp_path: Path, user_of: Any) -> Callable[..., AbstractAsyncContextManager[tuple[LocalCluster, Any]]]:
    """Starts an installation of the test's own, to be broken; takes LocalCluster's arguments."""

    @asynccontextmanager
    async def started(**options: Any) -> AsyncIterator[tuple[LocalCluster, Any]]:
        cluster = LocalCluster(tmp_path, **{"fsync": False, "env": QUIET, **options})
        await asyncio.to_thread(cluster.start)
        try:
            async with user_of(cluster) as someone:
                yield cluster, someone
        finally:
            await asyncio.to_thread(cluster.stop)

    return started
