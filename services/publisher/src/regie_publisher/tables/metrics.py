"""The tables of metric collection."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import UUID

from regie_publisher.tables.metadata import TIME, ZERO, metadata

scheduled_collection = sa.Table(
    "scheduled_collection",
    metadata,
    sa.Column("delivery_id", UUID, primary_key=True),
    sa.Column("workspace_id", UUID, nullable=False),
    sa.Column("post_id", UUID, nullable=False),
    sa.Column("channel_id", UUID, nullable=False),
    sa.Column("network", sa.Text, nullable=False),
    sa.Column("remote_id", sa.Text, nullable=False),
    sa.Column("remote_url", sa.Text, nullable=False),
    sa.Column("publish_time", TIME, nullable=False),
    sa.Column(
        "next_action_time", TIME, comment="of the next collection, or the lease's end; null when the plan is over"
    ),
    sa.Column("fence", sa.BigInteger, nullable=False, server_default=ZERO),
    sa.Column("failures", sa.Integer, nullable=False, server_default=ZERO),
    sa.Column("traceparent", sa.Text, nullable=False),
    sa.Column(
        "misses", sa.Integer, nullable=False, server_default=ZERO, comment="collections in a row without the post"
    ),
)
sa.Index(
    "scheduled_collection_due",
    scheduled_collection.c.workspace_id,
    scheduled_collection.c.next_action_time,
    postgresql_where=scheduled_collection.c.next_action_time.is_not(None),
)

engagement = sa.Table(
    "engagement",
    metadata,
    sa.Column("channel_id", UUID, primary_key=True),
    sa.Column("post_id", UUID, primary_key=True),
    sa.Column("kind", sa.Text, primary_key=True),
    sa.Column("actor_id", sa.Text, primary_key=True),
)
