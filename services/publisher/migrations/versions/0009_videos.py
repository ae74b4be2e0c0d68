"""Media say how long they play, so that a video is told from a picture."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Adds the column; a constant default rewrites no row."""
    duration = sa.Column("duration", sa.Interval, nullable=False, server_default=sa.text("'0'"))
    duration.comment = "of a video"
    op.add_column("media", duration)
