"""When a call may still land, and which delivery holds a post of an account."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import UUID

revision = "0003"
down_revision = "0002"

_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Adds columns, an index and a table; fills the table from what is out."""
    op.add_column("delivery", sa.Column("call_end_time", _TIME))
    op.add_column("delivery", sa.Column("quiet_end_time", _TIME))
    op.add_column("delivery", sa.Column("looks", sa.Integer, nullable=False, server_default=sa.text("0")))
    op.create_index(
        "delivery_open_once",
        "delivery",
        ["post_id", "channel_id"],
        unique=True,
        postgresql_where=sa.text("state NOT IN ('failed', 'cancelled', 'missed')"),
    )
    op.create_index(
        "delivery_in_doubt", "delivery", ["channel_id"], postgresql_where=sa.text("call_end_time IS NOT NULL")
    )
    op.create_table(
        "remote",
        sa.Column("network", sa.Text, primary_key=True),
        sa.Column("account", sa.Text, primary_key=True),
        sa.Column("remote_id", sa.Text, primary_key=True),
        sa.Column("delivery_id", UUID, nullable=False),
        sa.Column("segment", sa.Integer, nullable=False),
        sa.Column("time", _TIME, nullable=False),
    )
    op.execute(
        """
        INSERT INTO remote (network, account, remote_id, delivery_id, segment, time)
        SELECT c.network, c.server_url || ' ' || c.account, out.remote_id, d.id, out.position - 1, now()
        FROM delivery AS d
        JOIN channel AS c ON c.id = d.channel_id
        CROSS JOIN LATERAL unnest(d.remote_ids) WITH ORDINALITY AS out (remote_id, position)
        WHERE out.remote_id <> ''
        ORDER BY d.id
        ON CONFLICT DO NOTHING
        """
    )
    # What was unknown before: its call ended at the latest when it became so.
    op.execute(
        """
        UPDATE delivery SET call_end_time = now(), quiet_end_time = now() + interval '2 minutes'
        WHERE state = 'unknown'
        """
    )


def downgrade() -> None:
    """Takes them away again."""
    op.drop_table("remote")
    op.drop_index("delivery_in_doubt", "delivery")
    op.drop_index("delivery_open_once", "delivery")
    for name in ("looks", "quiet_end_time", "call_end_time"):
        op.drop_column("delivery", name)
