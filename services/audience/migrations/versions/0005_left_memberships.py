"""Memberships that ended are found by the time of their end, so that they can be purged."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Adds the index."""
    op.create_index("membership_left", "membership", ["leave_time"], postgresql_where=sa.text("leave_time IS NOT NULL"))
