"""Schema migrations: alembic over the service's own folder, one replica at a time.

Also holds the first form of the chassis' own tables, which each service's first migration creates.
"""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import command, context, op
from alembic.config import Config
from sqlalchemy import Connection, MetaData, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import create_async_engine

MIGRATION_LOCK = 0x7265676965  # "regie"; one advisory lock for each database
LOCK_TIMEOUT = "5s"


async def upgrade(url: str, folder: Path) -> None:
    """Brings the database to the newest revision. Repeatable; several replicas wait for one another."""
    engine = create_async_engine(url, connect_args={"timeout": 5})
    try:
        async with engine.connect() as connection:
            await connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": MIGRATION_LOCK})
            await connection.commit()
            await connection.run_sync(_run, folder)
            await connection.commit()
            await connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": MIGRATION_LOCK})
            await connection.commit()
    finally:
        await engine.dispose()


def _run(connection: Connection, folder: Path) -> None:
    config = Config()
    config.set_main_option("script_location", str(folder).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def run_environment(metadata: MetaData) -> None:
    """The whole of a service's `migrations/env.py`."""
    connection: Connection = context.config.attributes["connection"]
    context.configure(connection=connection, target_metadata=metadata, transaction_per_migration=True)
    with context.begin_transaction():
        # For the session, not LOCAL: each migration is a transaction of its own.
        connection.execute(text(f"SET lock_timeout = '{LOCK_TIMEOUT}'"))
        context.run_migrations()


def create_messaging_tables() -> None:
    """Creates outbox, inbox and dead_letter as of their first form; later forms are later functions."""
    op.create_table(
        "outbox",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        sa.Column("event_id", postgresql.UUID, nullable=False),
        sa.Column("aggregate_id", sa.Text, nullable=False),
        sa.Column("workspace_id", postgresql.UUID, nullable=False),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("payload", sa.LargeBinary, nullable=False),
        sa.Column("traceparent", sa.Text, nullable=False),
        sa.Column("event_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("sent_time", sa.DateTime(timezone=True)),
        sa.Column("stream_seq", sa.BigInteger),
        postgresql_with={"fillfactor": "70", "autovacuum_vacuum_scale_factor": "0.02"},
    )
    op.create_index("outbox_unsent", "outbox", ["id"], postgresql_where=text("sent_time IS NULL"))
    op.create_index("outbox_sent", "outbox", ["sent_time"], postgresql_where=text("sent_time IS NOT NULL"))
    op.create_table(
        "inbox",
        sa.Column("event_id", postgresql.UUID, primary_key=True),
        sa.Column("receive_time", sa.DateTime(timezone=True), nullable=False, server_default=text("now()")),
    )
    op.create_index("inbox_receive_time", "inbox", ["receive_time"], postgresql_using="brin")
    op.create_table(
        "dead_letter",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        sa.Column("stream", sa.Text, nullable=False),
        sa.Column("stream_seq", sa.BigInteger, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("headers", postgresql.JSONB, nullable=False),
        sa.Column("payload", sa.LargeBinary, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("dead_time", sa.DateTime(timezone=True), nullable=False, server_default=text("now()")),
        sa.UniqueConstraint("stream", "stream_seq", "subject", name="dead_letter_once"),
    )


def add_dead_outbox() -> None:
    """Lets outbox rows that can never be sent stand aside, and lets the relay take turns between workspaces."""
    op.add_column("outbox", sa.Column("dead_time", sa.DateTime(timezone=True)))
    op.add_column("outbox", sa.Column("dead_reason", sa.Text, nullable=False, server_default=""))
    op.create_index(
        "outbox_waiting",
        "outbox",
        ["workspace_id", "id"],
        postgresql_where=text("sent_time IS NULL AND dead_time IS NULL"),
    )
    op.create_index("outbox_dead", "outbox", ["id"], postgresql_where=text("dead_time IS NOT NULL"))
    op.drop_index("outbox_unsent", "outbox")
