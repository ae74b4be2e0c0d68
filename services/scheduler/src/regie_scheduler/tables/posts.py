"""Posts, their variants and their changes."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB, UUID

from regie_scheduler.posts.states import PostState, VariantState
from regie_scheduler.tables.metadata import metadata

_IS_SCHEDULED = f"state = '{PostState.SCHEDULED}'"

post = Table(
    "post",
    metadata,
    Column("id", UUID, primary_key=True),
    Column("workspace_id", UUID, nullable=False),
    Column("title", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("publish_local_time", Text, nullable=False, server_default=""),
    Column("time_zone", Text, nullable=False, server_default=""),
    Column("publish_time", DateTime(timezone=True)),
    Column("revision", BigInteger, nullable=False),
    Column("create_time", DateTime(timezone=True), nullable=False),
    Column("update_time", DateTime(timezone=True), nullable=False),
    Column("cancel_time", DateTime(timezone=True)),
    Column("traceparent", Text, nullable=False, server_default=""),
    CheckConstraint(f"state IN ({', '.join(repr(str(state)) for state in PostState)})", name="post_state"),
    CheckConstraint(f"state <> '{PostState.SCHEDULED}' OR publish_time IS NOT NULL", name="post_scheduled_has_time"),
    Index("post_due", "publish_time", "id", postgresql_where=text(_IS_SCHEDULED)),
    Index("post_due_by_workspace", "workspace_id", "publish_time", "id", postgresql_where=text(_IS_SCHEDULED)),
    Index("post_workspace", "workspace_id", "id"),
    Index("post_workspace_state", "workspace_id", "state", "id"),
)

variant = Table(
    "variant",
    metadata,
    Column("post_id", UUID, ForeignKey("post.id", ondelete="CASCADE"), primary_key=True),
    Column("channel_id", UUID, primary_key=True),
    Column("position", Integer, nullable=False),
    Column("content", LargeBinary, nullable=False),
    Column("state", Text, nullable=False, server_default=VariantState.PLANNED),
    Column("remote_id", Text, nullable=False, server_default=""),
    Column("remote_url", Text, nullable=False, server_default=""),
    Column("failure", Text, nullable=False, server_default=""),
    Column("remote_segments", JSONB, nullable=False, server_default=text("'[]'")),
    Column("remove_time", DateTime(timezone=True)),
    Column("failure_kind", Text, nullable=False, server_default=""),
    Column("delivery_id", Text, nullable=False, server_default=""),
    Column("state_time", DateTime(timezone=True)),
)

# No foreign key: rows are only written under the lock of their post, and a check for each would slow the due loop.
post_change = Table(
    "post_change",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("post_id", UUID, nullable=False),
    Column("time", DateTime(timezone=True), nullable=False),
    Column("state", Text, nullable=False),
    Column("cause", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Column("trace_id", Text, nullable=False),
    Index("post_change_post", "post_id", "id"),
)
