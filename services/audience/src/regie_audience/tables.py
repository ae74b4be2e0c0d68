"""The tables of the audience. No foreign keys from memberships: see the first migration."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from regie_audience.memberships.states import SegmentState

metadata = sa.MetaData()
CODE_POINTS = sa.Text(collation="C")


def _time(name: str, *, nullable: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


profile = sa.Table(
    "profile",
    metadata,
    sa.Column("id", postgresql.UUID, primary_key=True),
    sa.Column("workspace_id", postgresql.UUID, nullable=False),
    sa.Column("external_id", CODE_POINTS, nullable=False),
    sa.Column("attributes", postgresql.JSONB, nullable=False),
    _time("create_time"),
    _time("update_time"),
    sa.UniqueConstraint("workspace_id", "external_id", name="profile_external_id"),
    sa.Index("profile_newest", "workspace_id", "id"),
)

segment = sa.Table(
    "segment",
    metadata,
    sa.Column("id", postgresql.UUID, primary_key=True),
    sa.Column("workspace_id", postgresql.UUID, nullable=False),
    sa.Column("name", CODE_POINTS, nullable=False),
    sa.Column("request_id", CODE_POINTS),
    sa.Column("rule", postgresql.JSONB, nullable=False),
    sa.Column("rule_attributes", postgresql.ARRAY(sa.Text)),
    sa.Column("state", sa.Text, nullable=False, server_default=SegmentState.ACTIVE),
    sa.Column("member_count", sa.BigInteger, nullable=False),
    sa.Column("traceparent", sa.Text, nullable=False),
    _time("create_time"),
    sa.UniqueConstraint("workspace_id", "name", name="segment_name"),
    sa.UniqueConstraint("workspace_id", "request_id", name="segment_request"),
    sa.Index("segment_newest", "workspace_id", "id"),
)

membership = sa.Table(
    "membership",
    metadata,
    sa.Column("segment_id", postgresql.UUID, nullable=False),
    sa.Column("profile_id", postgresql.UUID, nullable=False),
    _time("enter_time"),
    _time("leave_time", nullable=True),
    sa.PrimaryKeyConstraint("segment_id", "profile_id"),
    sa.Index("membership_current", "segment_id", "profile_id", postgresql_where=sa.text("leave_time IS NULL")),
    sa.Index("membership_of_profile", "profile_id", postgresql_where=sa.text("leave_time IS NULL")),
    sa.Index("membership_left", "leave_time", postgresql_where=sa.text("leave_time IS NOT NULL")),
)

segment_work = sa.Table(
    "segment_work",
    metadata,
    sa.Column("segment_id", postgresql.UUID, primary_key=True),
    sa.Column("workspace_id", postgresql.UUID, nullable=False),
    sa.Column("reached", postgresql.UUID, nullable=False),
    sa.Column("waits_for", postgresql.ARRAY(sa.Text)),
    sa.Column("failures", sa.Integer, nullable=False),
    _time("next_time"),
)
