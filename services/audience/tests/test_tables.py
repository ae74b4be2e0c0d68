"""The tables as declared are the tables as migrated."""

from __future__ import annotations

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from regie_audience.tables import metadata
from regie_chassis.database import Database
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import create_async_engine

OF_THE_CHASSIS = {"outbox", "inbox", "dead_letter"}


def _differences(connection: Connection) -> list[object]:
    def ours(_object: object, name: str | None, kind: str, _reflected: bool, _other: object) -> bool:
        return not (kind == "table" and name in OF_THE_CHASSIS)

    context = MigrationContext.configure(connection, opts={"include_object": ours, "compare_type": True})
    return list(compare_metadata(context, metadata))


async def test_the_migrations_lead_to_the_declared_tables(database: Database) -> None:
    engine = create_async_engine(database.url)
    async with engine.connect() as connection:
        assert await connection.run_sync(_differences) == []
    await engine.dispose()
