"""A sandbox in this process, and one as a process of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx2
import pytest
from regie_sandbox.app import build
from regie_sandbox.testing import RunningSandbox, running_sandbox

ADA = {"Authorization": "Bearer sandbox-ada"}


@pytest.fixture
async def client() -> AsyncIterator[httpx2.AsyncClient]:
    """Calls a fresh sandbox in this process, as ada."""
    transport = httpx2.ASGITransport(build())
    async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1", headers=ADA) as client:
        yield client


@pytest.fixture
async def sandbox() -> AsyncIterator[RunningSandbox]:
    async with running_sandbox() as sandbox:
        yield sandbox
