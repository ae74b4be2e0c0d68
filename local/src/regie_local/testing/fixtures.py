"""Pytest fixtures on real servers; a package's conftest names this module in `pytest_plugins`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from regie_chassis.boundary.ids import new_id
from regie_chassis.data import migrations
from regie_chassis.data.database import Database
from regie_chassis.events.nats_broker import NatsBroker
from sqlalchemy.engine import make_url

from regie_local.nats import EmbeddedNats
from regie_local.postgres import EmbeddedPostgres
from regie_local.testing.clock import FakeClock

PASSWORD = "test"  # noqa: S105  # of a server that lives as long as the tests, on the loopback

NewDatabase = Callable[[Path], Awaitable[Database]]


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """A PostgreSQL server for all tests of the session."""
    server = EmbeddedPostgres(tmp_path_factory.mktemp("postgres"), fsync=False)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def nats_server(tmp_path: Path) -> Iterator[EmbeddedNats]:
    """A NATS server of the test's own, with empty streams."""
    server = EmbeddedNats(tmp_path / "nats")
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def database_templates() -> dict[Path, str]:
    """The migrated template databases of the session, by migrations folder."""
    return {}


@pytest.fixture
async def new_database(
    postgres_server: EmbeddedPostgres, database_templates: dict[Path, str]
) -> AsyncIterator[NewDatabase]:
    """Makes databases from a service's migrations folder: migrated once, then copied for each test."""
    made: list[Database] = []

    async def make(folder: Path) -> Database:
        if folder not in database_templates:
            template = f"template_{len(database_templates)}"
            url = await postgres_server.create_database(template, owner="regie_test", password=PASSWORD)
            await migrations.upgrade(url, folder)
            database_templates[folder] = template
        url = await postgres_server.copy_database(database_templates[folder], f"t_{new_id().hex}", owner="regie_test")
        database = Database(url.replace("***", PASSWORD))
        made.append(database)
        return database

    yield make
    for database in made:
        await database.close()
        await postgres_server.drop_database(str(make_url(database.url).database))


@pytest.fixture
async def broker(nats_server: EmbeddedNats) -> AsyncIterator[NatsBroker]:
    """A broker on the test's own NATS server."""
    broker = NatsBroker(nats_server.url, name="test")
    yield broker
    await broker.close()


@pytest.fixture
def clock() -> FakeClock:
    """A clock that the test moves."""
    return FakeClock()


@pytest.fixture
def stopping() -> asyncio.Event:
    """The event that ends a loop under test."""
    return asyncio.Event()
