"""The event log is called public, as in the documents; the version before must be stopped first."""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"

INDEXES = ("id_key", "of_workspace", "pkey", "record_time")


def upgrade() -> None:
    op.rename_table("outward_event", "public_event")
    for name in INDEXES:
        op.execute(f"ALTER INDEX outward_event_{name} RENAME TO public_event_{name}")
