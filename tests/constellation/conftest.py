"""Whole installations of processes for the tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from regie_local.local_cluster import LocalCluster
from regie_local.testing.user import NewInstallation, User, open_user

QUIET = {"publisher": {"PUBLISHER_QUIET_SECONDS": "5"}}
"""Nothing stands between a publisher and its sandbox on one machine that could carry a call for longer."""


@pytest.fixture(scope="session")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """One of everything, for tests that break nothing."""
    with LocalCluster(tmp_path_factory.mktemp("installation"), fsync=False, env=QUIET) as running:
        yield running


@pytest.fixture
async def user(installation: LocalCluster) -> AsyncIterator[User]:
    async with open_user(installation) as someone:
        await someone.sandbox.delete("/admin/faults")
        yield someone


@pytest.fixture
def breakable(tmp_path: Path) -> NewInstallation:
    """Starts an installation of the test's own, to be broken; takes LocalCluster's arguments."""

    @asynccontextmanager
    async def started(**options: Any) -> AsyncIterator[tuple[LocalCluster, User]]:
        cluster = LocalCluster(tmp_path, **{"fsync": False, "env": QUIET, **options})
        await asyncio.to_thread(cluster.start)
        try:
            async with open_user(cluster) as someone:
                yield cluster, someone
        finally:
            await asyncio.to_thread(cluster.stop)

    return started
