"""Observations by day, their roll-ups, and the messaging tables."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from regie_chassis.data.migrations import create_messaging_tables
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Creates everything."""
    create_messaging_tables()
    key = ("workspace_id", "post_id", "metric", "channel_id")
    op.create_table(
        "observation",
        *_columns("network", sa.Text()),
        sa.PrimaryKeyConstraint(*key, "observe_time"),
        postgresql_partition_by="RANGE (observe_time)",
    )
    # A bucket is written again with every reading in it; room on the page keeps that update off the index.
    for name in ("hourly", "daily"):
        op.create_table(
            name,
            *_columns("start_time", sa.DateTime(timezone=True)),
            sa.PrimaryKeyConstraint(*key, "start_time"),
            postgresql_with={"fillfactor": "80"},
        )
    op.create_table(
        "latest", *_columns("network", sa.Text()), sa.PrimaryKeyConstraint(*key), postgresql_with={"fillfactor": "70"}
    )


def _columns(own: str, kind: sa.types.TypeEngine[Any]) -> list[sa.Column[Any]]:
    return [
        sa.Column("workspace_id", postgresql.UUID, nullable=False),
        sa.Column("post_id", postgresql.UUID, nullable=False),
        sa.Column("metric", sa.Text, nullable=False),
        sa.Column("channel_id", postgresql.UUID, nullable=False),
        sa.Column(own, kind, nullable=False),
        sa.Column("observe_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("value", sa.BigInteger, nullable=False),
    ]
