"""The publisher's first form."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from regie_chassis.data.migrations import create_messaging_tables
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, UUID

revision = "0001"
down_revision = None

_TIME = sa.DateTime(timezone=True)
_EMPTY = sa.text("''")
_NONE = sa.text("'{}'")
_ZERO = sa.text("0")


def upgrade() -> None:
    """Creates all tables."""
    create_messaging_tables()
    _create_channel()
    _create_media()
    _create_delivery()
    _create_delivery_history()
    _create_observations()


def _create_channel() -> None:
    op.create_table(
        "channel",
        sa.Column("id", UUID, primary_key=True),
        sa.Column("workspace_id", UUID, nullable=False),
        sa.Column("network", sa.Text, nullable=False),
        sa.Column("server_url", sa.Text, nullable=False),
        sa.Column("remote_id", sa.Text, nullable=False),
        sa.Column("handle", sa.Text, nullable=False),
        sa.Column("display_name", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("attention", sa.Text, nullable=False, server_default=_EMPTY),
        sa.Column("create_time", _TIME, nullable=False),
        sa.Column("block_time", _TIME),
        sa.Column("key_id", sa.Text, nullable=False),
        sa.Column("data_key", sa.LargeBinary, nullable=False),
        sa.Column("secrets", sa.LargeBinary, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("refresh_worker", sa.Text),
        sa.Column("refresh_expire_time", _TIME),
        sa.UniqueConstraint("workspace_id", "network", "server_url", "remote_id", name="channel_once"),
    )
    op.create_index("channel_listing", "channel", ["workspace_id", "id"])


def _create_media() -> None:
    op.create_table(
        "media",
        sa.Column("id", UUID, primary_key=True),
        sa.Column("workspace_id", UUID, nullable=False),
        sa.Column("sha256", sa.LargeBinary, nullable=False),
        sa.Column("content_type", sa.Text, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("width", sa.Integer, nullable=False),
        sa.Column("height", sa.Integer, nullable=False),
        sa.Column("create_time", _TIME, nullable=False),
        sa.UniqueConstraint("workspace_id", "sha256", name="media_once"),
    )


def _create_delivery() -> None:
    op.create_table(
        "delivery",
        sa.Column("id", UUID, primary_key=True),
        sa.Column("workspace_id", UUID, nullable=False),
        sa.Column("post_id", UUID, nullable=False),
        sa.Column("channel_id", UUID, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("network", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("act_time", _TIME),
        sa.Column("content", sa.LargeBinary, nullable=False),
        sa.Column("segment_keys", ARRAY(sa.Text), nullable=False),
        sa.Column("compose_time", _TIME, nullable=False),
        sa.Column("due_time", _TIME, nullable=False),
        sa.Column("miss_time", _TIME, nullable=False),
        sa.Column("traceparent", sa.Text, nullable=False),
        sa.Column("fence", sa.BigInteger, nullable=False, server_default=_ZERO),
        sa.Column("worker", sa.Text, nullable=False, server_default=_EMPTY),
        sa.Column("attempt", sa.Integer, nullable=False, server_default=_ZERO),
        sa.Column("tries", sa.Integer, nullable=False, server_default=_ZERO),
        sa.Column("finds", sa.Integer, nullable=False, server_default=_ZERO),
        sa.Column("needs_person", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("handles", JSONB, nullable=False, server_default=_NONE),
        sa.Column("remote_ids", ARRAY(sa.Text), nullable=False, server_default=_NONE),
        sa.Column("remote_urls", ARRAY(sa.Text), nullable=False, server_default=_NONE),
        sa.Column("processing_handle", sa.Text, nullable=False, server_default=_EMPTY),
        sa.Column("failure_kind", sa.Text, nullable=False, server_default=_EMPTY),
        sa.Column("network_message", sa.Text, nullable=False, server_default=_EMPTY),
        sa.Column("resolve_request_id", sa.Text, nullable=False, server_default=_EMPTY),
        sa.UniqueConstraint("post_id", "channel_id", "revision", name="delivery_once"),
        postgresql_with={"fillfactor": "70", "autovacuum_vacuum_scale_factor": "0.02"},
    )
    op.create_index(
        "delivery_pending", "delivery", ["act_time", "channel_id"], postgresql_where=sa.text("state = 'pending'")
    )
    op.create_index(
        "delivery_held", "delivery", ["act_time"], postgresql_where=sa.text("state IN ('claimed', 'publishing')")
    )
    op.create_index(
        "delivery_open_ended",
        "delivery",
        ["state", "act_time"],
        postgresql_where=sa.text("state IN ('processing', 'unknown')"),
    )


def _create_delivery_history() -> None:
    op.create_table(
        "attempt",
        sa.Column("delivery_id", UUID, primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("fence", sa.BigInteger, nullable=False),
        sa.Column("worker", sa.Text, nullable=False),
        sa.Column("claim_time", _TIME, nullable=False),
        sa.Column("end_time", _TIME),
        sa.Column("outcome", sa.Text, nullable=False, server_default=_EMPTY),
        sa.Column("network_message", sa.Text, nullable=False, server_default=_EMPTY),
    )
    op.create_table(
        "delivery_change",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        sa.Column("delivery_id", UUID, nullable=False),
        sa.Column("time", _TIME, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("cause", sa.Text, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("network_message", sa.Text, nullable=False, server_default=_EMPTY),
        sa.Column("trace_id", sa.Text, nullable=False),
    )
    op.create_index("delivery_change_delivery", "delivery_change", ["delivery_id"])
    op.create_table(
        "cancellation",
        sa.Column("workspace_id", UUID, primary_key=True),
        sa.Column("post_id", UUID, primary_key=True),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("time", _TIME, nullable=False),
    )


def _create_observations() -> None:
    op.create_table(
        "poll",
        sa.Column("delivery_id", UUID, primary_key=True),
        sa.Column("workspace_id", UUID, nullable=False),
        sa.Column("post_id", UUID, nullable=False),
        sa.Column("channel_id", UUID, nullable=False),
        sa.Column("network", sa.Text, nullable=False),
        sa.Column("remote_id", sa.Text, nullable=False),
        sa.Column("remote_url", sa.Text, nullable=False),
        sa.Column("publish_time", _TIME, nullable=False),
        sa.Column("act_time", _TIME),
        sa.Column("fence", sa.BigInteger, nullable=False, server_default=_ZERO),
        sa.Column("failures", sa.Integer, nullable=False, server_default=_ZERO),
        sa.Column("traceparent", sa.Text, nullable=False),
    )
    op.create_index("poll_due", "poll", ["act_time"], postgresql_where=sa.text("act_time IS NOT NULL"))
    op.create_table(
        "engagement",
        sa.Column("channel_id", UUID, primary_key=True),
        sa.Column("post_id", UUID, primary_key=True),
        sa.Column("kind", sa.Text, primary_key=True),
        sa.Column("actor_id", sa.Text, primary_key=True),
    )
