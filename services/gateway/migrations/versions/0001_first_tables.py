"""Workspaces, keys, idempotency keys and the outward event log."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from regie_chassis.data.migrations import create_messaging_tables
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None


def upgrade() -> None:
    create_messaging_tables()
    op.create_table(
        "workspace",
        sa.Column("id", postgresql.UUID, primary_key=True),
        sa.Column("name", sa.Text, nullable=False, unique=True),
        sa.Column("missed_after_seconds", sa.Integer, nullable=False),
        sa.Column("create_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("update_time", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_table(
        "api_key",
        sa.Column("id", postgresql.UUID, primary_key=True),
        sa.Column("workspace_id", postgresql.UUID, sa.ForeignKey("workspace.id"), nullable=False),
        sa.Column("request_id", postgresql.UUID, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("secret_hash", sa.LargeBinary, nullable=False),
        sa.Column("scopes", postgresql.ARRAY(sa.Text), nullable=False),
        sa.Column("create_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("revoke_time", sa.DateTime(timezone=True)),
        sa.Column("last_used_time", sa.DateTime(timezone=True)),
        sa.UniqueConstraint("workspace_id", "request_id", name="api_key_once"),
    )
    op.create_table(
        "idempotency_key",
        sa.Column("workspace_id", postgresql.UUID, primary_key=True),
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("fingerprint", sa.LargeBinary, nullable=False),
        sa.Column("token", postgresql.UUID, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("lease_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("create_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("status", sa.Integer),
        sa.Column("headers", postgresql.JSONB),
        sa.Column("body", sa.LargeBinary),
    )
    op.create_index("idempotency_key_create_time", "idempotency_key", ["create_time"])
    _create_outward_event()


def _create_outward_event() -> None:
    op.create_table(
        "outward_event",
        sa.Column(
            "xact", sa.BigInteger, primary_key=True, server_default=sa.text("(pg_current_xact_id()::text)::bigint")
        ),
        sa.Column("sequence", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        sa.Column("id", postgresql.UUID, nullable=False, unique=True),
        sa.Column("workspace_id", postgresql.UUID, nullable=False),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("data", postgresql.JSONB, nullable=False),
        sa.Column("traceparent", sa.Text, nullable=False),
        sa.Column("record_time", sa.DateTime(timezone=True), nullable=False, server_default=sa.text("now()")),
    )
    op.create_index("outward_event_of_workspace", "outward_event", ["workspace_id", "xact", "sequence"])
    op.create_index("outward_event_record_time", "outward_event", ["record_time"], postgresql_using="brin")
