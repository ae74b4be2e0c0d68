"""Old buckets are found by their time, so that they can be purged; they come in its order, hence BRIN."""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Adds the indexes."""
    for table in ("hourly", "daily"):
        op.create_index(f"{table}_start_time", table, ["start_time"], postgresql_using="brin")
