"""The parts of a service for the chassis' own tests: a database with its tables, and events."""

from __future__ import annotations

from pathlib import Path

import pytest
from regie_chassis.data.database import Database
from regie_local.testing.fixtures import NewDatabase

MIGRATIONS = Path(__file__).parent / "migrations"


@pytest.fixture
async def database(new_database: NewDatabase) -> Database:
    """A database with the chassis' tables and `effect`, where handlers leave a trace."""
    return await new_database(MIGRATIONS)
