"""Segments are filled and removed in chunks: their state, the attributes that their rules look at, and the work left.

Segments from before are filled, and an unknown list of attributes means all of them. `membership.announced` is no
longer read or written; its default lets it be until a later contraction.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Adds the columns and the table."""
    op.add_column("segment", sa.Column("rule_attributes", postgresql.ARRAY(sa.Text)))
    op.add_column("segment", sa.Column("state", sa.Text, nullable=False, server_default="active"))
    op.alter_column("membership", "announced", server_default=sa.true())
    op.create_table(
        "segment_work",
        sa.Column("segment_id", postgresql.UUID, primary_key=True),
        sa.Column("workspace_id", postgresql.UUID, nullable=False),
        sa.Column("reached", postgresql.UUID, nullable=False),
        sa.Column("waits_for", postgresql.ARRAY(sa.Text)),
        sa.Column("failures", sa.Integer, nullable=False),
        sa.Column("next_time", sa.DateTime(timezone=True), nullable=False),
    )
