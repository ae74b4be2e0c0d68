"""An entry is staged with the change that causes it: nothing announces it later (ADR 0024)."""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Drops the column, which nothing has read since 0002, and its index."""
    op.drop_index("membership_unannounced", "membership")
    op.drop_column("membership", "announced")
