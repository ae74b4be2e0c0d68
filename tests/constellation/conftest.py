"""Whole installations of processes for the tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from regie_chassis.embedded.constellation import Constellation

QUIET = {"publisher": {"PUBLISHER_QUIET_SECONDS": "5"}}
"""Nothing stands between a publisher and its sandbox on one machine that could carry a call for longer."""


@pytest.fixture(scope="session")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Constellation]:
    """One of everything, for tests that break nothing."""
    with Constellation(tmp_path_factory.mktemp("installation"), fsync=False, env=QUIET) as running:
        yield running


@pytest.fixture
async def user(installation: Constellation, user_of: Any) -> AsyncIterator[Any]:
    async with user_of(installation) as someone:
        await someone.sandbox.delete("/admin/faults")
        yield someone


@pytest.fixture
def breakable(tmp_path: Path, user_of: Any) -> Callable[..., AbstractAsyncContextManager[tuple[Constellation, Any]]]:
    """Starts an installation of the test's own, to be broken; takes Constellation's arguments."""

    @asynccontextmanager
    async def started(**options: Any) -> AsyncIterator[tuple[Constellation, Any]]:
        constellation = Constellation(tmp_path, **{"fsync": False, "env": QUIET, **options})
        await asyncio.to_thread(constellation.start)
        try:
            async with user_of(constellation) as someone:
                yield constellation, someone
        finally:
            await asyncio.to_thread(constellation.stop)

    return started
