"""Profiles, segments, memberships, and the messaging tables.

Memberships have no foreign keys: profiles and segments are not deleted yet, a check for each row doubles the time of
a segment's filling, and its lock on the segment's row would stand in the way of the member count.
"""

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
    _create_profile()
    _create_segment()
    _create_membership()


def _create_profile() -> None:
    op.create_table(
        "profile",
        sa.Column("id", postgresql.UUID, primary_key=True),
        sa.Column("workspace_id", postgresql.UUID, nullable=False),
        sa.Column("external_id", sa.Text(collation="C"), nullable=False),
        sa.Column("attributes", postgresql.JSONB, nullable=False),
        _time("create_time"),
        _time("update_time"),
        sa.UniqueConstraint("workspace_id", "external_id", name="profile_external_id"),
        postgresql_with={"fillfactor": "80"},
    )
    op.create_index("profile_newest", "profile", ["workspace_id", "id"])


def _create_segment() -> None:
    op.create_table(
        "segment",
        sa.Column("id", postgresql.UUID, primary_key=True),
        sa.Column("workspace_id", postgresql.UUID, nullable=False),
        sa.Column("name", sa.Text(collation="C"), nullable=False),
        sa.Column("request_id", sa.Text(collation="C")),
        sa.Column("rule", postgresql.JSONB, nullable=False),
        sa.Column("member_count", sa.BigInteger, nullable=False),
        sa.Column("traceparent", sa.Text, nullable=False),
        _time("create_time"),
        sa.UniqueConstraint("workspace_id", "name", name="segment_name"),
        sa.UniqueConstraint("workspace_id", "request_id", name="segment_request"),
        postgresql_with={"fillfactor": "50"},
    )
    op.create_index("segment_newest", "segment", ["workspace_id", "id"])


def _create_membership() -> None:
    op.create_table(
        "membership",
        sa.Column("segment_id", postgresql.UUID, nullable=False),
        sa.Column("profile_id", postgresql.UUID, nullable=False),
        _time("enter_time"),
        _time("leave_time", nullable=True),
        sa.Column("announced", sa.Boolean, nullable=False),
        sa.PrimaryKeyConstraint("segment_id", "profile_id"),
    )
    current = sa.text("leave_time IS NULL")
    op.create_index("membership_current", "membership", ["segment_id", "profile_id"], postgresql_where=current)
    op.create_index("membership_of_profile", "membership", ["profile_id"], postgresql_where=current)
    op.create_index("membership_unannounced", "membership", ["profile_id"], postgresql_where=sa.text("NOT announced"))


def _time(name: str, *, nullable: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)
