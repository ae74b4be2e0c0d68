"""The tables in the code and in the database are the same."""

from __future__ import annotations

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from regie_chassis.database import Database
from regie_scheduler.tables.schema import metadata
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import create_async_engine

MESSAGING = {"outbox", "inbox", "dead_letter", "alembic_version"}


async def test_the_migrations_leave_the_tables_that_the_code_names(database: Database) -> None:
    def compare(connection: Connection) -> list[object]:
        def ours(_item: object, name: str | None, kind: str, *_: object) -> bool:
            return not (kind == "table" and name in MESSAGING)

        options = {"include_object": ours, "compare_type": True, "compare_server_default": True}
        return list(compare_metadata(MigrationContext.configure(connection, opts=options), metadata))

    engine = create_async_engine(database.url)
    try:
        async with engine.connect() as connection:
            assert await connection.run_sync(compare) == []
    finally:
        await engine.dispose()
