"""Media say how many frames they have, so that an animation is told from a still picture before its time comes."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Adds the column; a constant default rewrites no row."""
    frames = sa.Column("frames", sa.Integer, nullable=False, server_default=sa.text("1"))
    frames.comment = "more than 1 is an animation"
    op.add_column("media", frames)
