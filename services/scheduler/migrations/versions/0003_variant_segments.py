"""Which parts of a variant are out, and when its network was seen to have lost it."""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.execute("ALTER TABLE variant ADD COLUMN remote_segments jsonb NOT NULL DEFAULT '[]'")
    op.execute("ALTER TABLE variant ADD COLUMN remove_time timestamptz")
