"""The tables of the delivery protocol."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, UUID

from regie_publisher.tables.metadata import EMPTY, NONE, TIME, ZERO, metadata

delivery = sa.Table(
    "delivery",
    metadata,
    sa.Column("id", UUID, primary_key=True),
    sa.Column("workspace_id", UUID, nullable=False),
    sa.Column("post_id", UUID, nullable=False),
    sa.Column("channel_id", UUID, nullable=False),
    sa.Column("revision", sa.BigInteger, nullable=False),
    sa.Column("network", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column(
        "next_action_time", TIME, comment="when a loop has to look: next attempt, check or find, or the lease's end"
    ),
    sa.Column("content", sa.LargeBinary, nullable=False, comment="the DueVariant, as it came"),
    sa.Column("segment_keys", ARRAY(sa.Text), nullable=False),
    sa.Column("compose_time", TIME, nullable=False),
    sa.Column("due_time", TIME, nullable=False),
    sa.Column("miss_time", TIME, nullable=False),
    sa.Column("traceparent", sa.Text, nullable=False),
    sa.Column("fence", sa.BigInteger, nullable=False, server_default=ZERO, comment="raised whenever it is taken"),
    sa.Column("worker", sa.Text, nullable=False, server_default=EMPTY),
    sa.Column("attempt_number", sa.Integer, nullable=False, server_default=ZERO),
    sa.Column(
        "consecutive_attempts",
        sa.Integer,
        nullable=False,
        server_default=ZERO,
        comment="attempts since the last progress",
    ),
    sa.Column("lookups", sa.Integer, nullable=False, server_default=ZERO, comment="lookups since it became unknown"),
    sa.Column("needs_person", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("call_end_time", TIME, comment="of the last call that may still land; null when none may"),
    sa.Column("quiet_end_time", TIME, comment="until when it may"),
    sa.Column(
        "empty_lookups",
        sa.Integer,
        nullable=False,
        server_default=ZERO,
        comment="lookups since call_end_time that found nothing",
    ),
    sa.Column("handles", JSONB, nullable=False, server_default=NONE),
    sa.Column("remote_ids", ARRAY(sa.Text), nullable=False, server_default=NONE),
    sa.Column("remote_urls", ARRAY(sa.Text), nullable=False, server_default=NONE),
    sa.Column("processing_handle", sa.Text, nullable=False, server_default=EMPTY),
    sa.Column("failure_kind", sa.Text, nullable=False, server_default=EMPTY),
    sa.Column("network_message", sa.Text, nullable=False, server_default=EMPTY),
    sa.Column("resolve_request_id", sa.Text, nullable=False, server_default=EMPTY),
    sa.Column("detail", sa.Text, nullable=False, server_default=EMPTY, comment="our own words about a failure"),
    sa.UniqueConstraint("post_id", "channel_id", "revision", name="delivery_once"),
    postgresql_with={"fillfactor": "70", "autovacuum_vacuum_scale_factor": "0.02"},
)
sa.Index(
    "delivery_pending_by_workspace",
    delivery.c.workspace_id,
    delivery.c.next_action_time,
    postgresql_where=delivery.c.state == "pending",
)
sa.Index(
    "delivery_held",
    delivery.c.next_action_time,
    postgresql_where=sa.text("state IN ('claimed', 'publishing')"),
)
sa.Index(
    "delivery_open_by_workspace",
    delivery.c.state,
    delivery.c.workspace_id,
    delivery.c.next_action_time,
    postgresql_where=sa.text("state IN ('processing', 'unknown')"),
)
# At most one that went out or may go out, whatever the revision.
sa.Index(
    "delivery_open_once",
    delivery.c.post_id,
    delivery.c.channel_id,
    unique=True,
    postgresql_where=sa.text("state NOT IN ('failed', 'cancelled', 'missed')"),
)
sa.Index("delivery_in_doubt", delivery.c.channel_id, postgresql_where=delivery.c.call_end_time.is_not(None))

remote = sa.Table(
    "remote",
    metadata,
    sa.Column("network", sa.Text, primary_key=True),
    sa.Column("account", sa.Text, primary_key=True),
    sa.Column("remote_id", sa.Text, primary_key=True, comment="or the address, where a person gave no more"),
    sa.Column("delivery_id", UUID, nullable=False),
    sa.Column("segment", sa.Integer, nullable=False),
    sa.Column("time", TIME, nullable=False),
    comment="which delivery holds a post of an account at its server; no post belongs to two",
)

sa.Index("remote_delivery", remote.c.delivery_id)

attempt = sa.Table(
    "attempt",
    metadata,
    sa.Column("delivery_id", UUID, primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("fence", sa.BigInteger, nullable=False),
    sa.Column("worker", sa.Text, nullable=False),
    sa.Column("claim_time", TIME, nullable=False),
    sa.Column("end_time", TIME),
    sa.Column("outcome", sa.Text, nullable=False, server_default=EMPTY),
    sa.Column("network_message", sa.Text, nullable=False, server_default=EMPTY),
)

delivery_change = sa.Table(
    "delivery_change",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("delivery_id", UUID, nullable=False),
    sa.Column("time", TIME, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("cause", sa.Text, nullable=False),
    sa.Column("attempt_number", sa.Integer, nullable=False),
    sa.Column("network_message", sa.Text, nullable=False, server_default=EMPTY),
    sa.Column("trace_id", sa.Text, nullable=False),
    sa.Column("detail", sa.Text, nullable=False, server_default=EMPTY),
    sa.Column("segments_out", sa.Integer, nullable=False, server_default=ZERO),
)
sa.Index("delivery_change_delivery", delivery_change.c.delivery_id)

cancellation = sa.Table(
    "cancellation",
    metadata,
    sa.Column("workspace_id", UUID, primary_key=True),
    sa.Column("post_id", UUID, primary_key=True),
    sa.Column("revision", sa.BigInteger, nullable=False),
    sa.Column("time", TIME, nullable=False),
)
sa.Index("cancellation_time", cancellation.c.time)
