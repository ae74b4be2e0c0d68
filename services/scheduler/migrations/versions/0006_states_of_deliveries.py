"""A variant keeps the time of its last report, and the timeline keeps the post's own changes alone (ADR 0009)."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.add_column("variant", sa.Column("state_time", sa.DateTime(timezone=True)))
    op.execute(
        """
        UPDATE variant SET state_time = newest.time
        FROM (SELECT post_id, channel_id, max(time) AS time FROM post_change
              WHERE channel_id IS NOT NULL GROUP BY post_id, channel_id) AS newest
        WHERE variant.post_id = newest.post_id AND variant.channel_id = newest.channel_id
        """
    )
    op.execute("DELETE FROM post_change WHERE channel_id IS NOT NULL")
    op.drop_column("post_change", "channel_id")
