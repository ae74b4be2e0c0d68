"""The gateway's tables as `alembic check` compares them; the chassis' own are not among them."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

metadata = sa.MetaData()

workspace = sa.Table(
    "workspace",
    metadata,
    sa.Column("id", postgresql.UUID, primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("bootstrap_name", sa.Text, unique=True),
    sa.Column("missed_after_seconds", sa.Integer, nullable=False),
    sa.Column("create_time", sa.DateTime(timezone=True), nullable=False),
    sa.Column("update_time", sa.DateTime(timezone=True), nullable=False),
)

api_key = sa.Table(
    "api_key",
    metadata,
    sa.Column("id", postgresql.UUID, primary_key=True),
    sa.Column("workspace_id", postgresql.UUID, sa.ForeignKey("workspace.id"), nullable=False),
    sa.Column("request_id", postgresql.UUID, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("secret_hash", sa.LargeBinary, nullable=False),
    sa.Column("scopes", postgresql.ARRAY(sa.Text), nullable=False),
    sa.Column("create_time", sa.DateTime(timezone=True), nullable=False),
    sa.Column("revoke_time", sa.DateTime(timezone=True)),
    sa.Column("last_used_time", sa.DateTime(timezone=True)),
    sa.Column("expire_time", sa.DateTime(timezone=True)),
    sa.Column("parent_id", postgresql.UUID),
    sa.UniqueConstraint("workspace_id", "request_id", name="api_key_once"),
)

idempotency_key = sa.Table(
    "idempotency_key",
    metadata,
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
    sa.Index("idempotency_key_create_time", "create_time"),
)

public_event = sa.Table(
    "public_event",
    metadata,
    sa.Column("xact", sa.BigInteger, primary_key=True, server_default=sa.text("(pg_current_xact_id()::text)::bigint")),
    sa.Column("sequence", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("id", postgresql.UUID, nullable=False, unique=True),
    sa.Column("workspace_id", postgresql.UUID, nullable=False),
    sa.Column("type", sa.Text, nullable=False),
    sa.Column("subject", sa.Text, nullable=False),
    sa.Column("time", sa.DateTime(timezone=True), nullable=False),
    sa.Column("data", postgresql.JSONB, nullable=False),
    sa.Column("traceparent", sa.Text, nullable=False),
    sa.Column("source_sequence", sa.BigInteger, nullable=False, server_default=sa.text("0")),
    sa.Column("record_time", sa.DateTime(timezone=True), nullable=False, server_default=sa.text("now()")),
    sa.Index("public_event_of_workspace", "workspace_id", "xact", "sequence"),
    sa.Index("public_event_record_time", "record_time", postgresql_using="brin"),
)
