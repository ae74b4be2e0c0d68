"""The chassis' own tables, and one table for handlers to write to."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from regie_chassis.data.migrations import create_messaging_tables

revision = "0001"
down_revision = None


def upgrade() -> None:
    create_messaging_tables()
    op.create_table("effect", sa.Column("post_id", sa.Text, nullable=False))
