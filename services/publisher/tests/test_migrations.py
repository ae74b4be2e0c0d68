"""The migrations lead to the declared tables."""

from __future__ import annotations

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from regie_chassis.data.database import Database
from regie_publisher.tables.metadata import metadata
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import create_async_engine


async def test_the_migrated_schema_is_the_one_of_the_tables(database: Database) -> None:
    def differences(connection: Connection) -> list[object]:
        options = {"include_name": lambda name, kind, _: kind != "table" or name in metadata.tables}
        return list(compare_metadata(MigrationContext.configure(connection, opts=options), metadata))

    engine = create_async_engine(database.url)
    async with engine.connect() as connection:
        found = await connection.run_sync(differences)
    await engine.dispose()
    assert [one for one in found if "comment" not in str(one)[:40]] == []
