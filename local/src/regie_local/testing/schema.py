"""Compares the migrated tables of a service with its declared ones."""

from __future__ import annotations

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from regie_chassis.data.database import Database
from sqlalchemy import Connection, MetaData
from sqlalchemy.ext.asyncio import create_async_engine


async def schema_differences(database: Database, metadata: MetaData) -> list[object]:
    """Returns the differences in tables, types and defaults; empty when migrations and declarations agree."""

    def own(_item: object, name: str | None, kind: str, _reflected: bool, _compared: object) -> bool:
        return kind != "table" or name in metadata.tables or name not in OF_THE_CHASSIS

    def compare(connection: Connection) -> list[object]:
        options = {"include_object": own, "compare_type": True, "compare_server_default": True}
        return list(compare_metadata(MigrationContext.configure(connection, opts=options), metadata))

    engine = create_async_engine(database.url)
    try:
        async with engine.connect() as connection:
            return await connection.run_sync(compare)
    finally:
        await engine.dispose()


OF_THE_CHASSIS = frozenset({"outbox", "inbox", "dead_letter", "alembic_version"})
