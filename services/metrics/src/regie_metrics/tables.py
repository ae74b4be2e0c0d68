"""The tables of metrics.

`observation` is partitioned by day; its partitions are made and dropped by `partitions`, not by migrations.
`hourly`, `daily` and `latest` are functions of the observations and outlive them.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

metadata = sa.MetaData()


def _identity() -> list[sa.Column[object]]:
    return [
        sa.Column("workspace_id", postgresql.UUID, nullable=False),
        sa.Column("post_id", postgresql.UUID, nullable=False),
        sa.Column("metric", sa.Text, nullable=False),
        sa.Column("channel_id", postgresql.UUID, nullable=False),
    ]


def _reading() -> list[sa.Column[object]]:
    return [
        sa.Column("observe_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("value", sa.BigInteger, nullable=False),
    ]


observation = sa.Table(
    "observation",
    metadata,
    *_identity(),
    sa.Column("network", sa.Text, nullable=False),
    *_reading(),
    sa.PrimaryKeyConstraint("workspace_id", "post_id", "metric", "channel_id", "observe_time"),
    postgresql_partition_by="RANGE (observe_time)",
)

hourly, daily = (
    sa.Table(
        name,
        metadata,
        *_identity(),
        sa.Column("start_time", sa.DateTime(timezone=True), nullable=False),
        *_reading(),
        sa.PrimaryKeyConstraint("workspace_id", "post_id", "metric", "channel_id", "start_time"),
        sa.Index(f"{name}_start_time", "start_time", postgresql_using="brin"),
    )
    for name in ("hourly", "daily")
)

latest = sa.Table(
    "latest",
    metadata,
    *_identity(),
    sa.Column("network", sa.Text, nullable=False),
    *_reading(),
    sa.PrimaryKeyConstraint("workspace_id", "post_id", "metric", "channel_id"),
)
