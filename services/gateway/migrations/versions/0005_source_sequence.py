"""Logged events keep the order that their source gave them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Adds the column; a constant default rewrites no row."""
    op.add_column(
        "public_event", sa.Column("source_sequence", sa.BigInteger, nullable=False, server_default=sa.text("0"))
    )
