"""Columns and a table get the field's names: lookups, attempt numbers, scheduled collections."""

from __future__ import annotations

from alembic import op

revision = "0007"
down_revision = "0006"

COLUMNS = (
    ("delivery", "act_time", "next_action_time"),
    ("delivery", "attempt", "attempt_number"),
    ("delivery", "tries", "consecutive_attempts"),
    ("delivery", "finds", "lookups"),
    ("delivery", "looks", "empty_lookups"),
    ("delivery_change", "attempt", "attempt_number"),
    ("poll", "act_time", "next_action_time"),
)


def upgrade() -> None:
    """Renames in place; indexes and their conditions follow."""
    for table, old, new in COLUMNS:
        op.alter_column(table, old, new_column_name=new)
    op.rename_table("poll", "scheduled_collection")
    op.execute("ALTER INDEX poll_pkey RENAME TO scheduled_collection_pkey")
    op.execute("ALTER INDEX poll_due_by_workspace RENAME TO scheduled_collection_due")
