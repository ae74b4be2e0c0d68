"""Indexes by which old rows are found when they are deleted."""

from __future__ import annotations

from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Creates the indexes."""
    op.create_index("remote_delivery", "remote", ["delivery_id"])
    op.create_index("cancellation_time", "cancellation", ["time"])
