"""The migrations lead to the tables that the code declares."""

from __future__ import annotations

from regie_chassis.data.database import Database
from regie_gateway.tables import metadata
from regie_local.testing.schema import schema_differences


async def test_the_migrations_lead_to_the_declared_tables(database: Database) -> None:
    assert await schema_differences(database, metadata) == []
