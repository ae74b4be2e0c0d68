"""Channels by their account, what networks make of them, and which parts of a thread are out (ADR 0018).

A channel connected by a replica of the version before, while this one rolls out, fails and is connected again;
deliveries go on meanwhile.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_TIME = sa.DateTime(timezone=True)
_EMPTY = sa.text("''")
_ZERO = sa.text("0")


def upgrade() -> None:
    """Adds the columns, and names each account once."""
    op.add_column("channel", sa.Column("attention_source", sa.Text, nullable=False, server_default=_EMPTY))
    op.add_column("channel", sa.Column("requested_block_time", _TIME))
    op.add_column("channel", sa.Column("blocks", sa.Integer, nullable=False, server_default=_ZERO))
    op.add_column("channel", sa.Column("refresh_losses", sa.Integer, nullable=False, server_default=_ZERO))
    op.add_column("delivery", sa.Column("detail", sa.Text, nullable=False, server_default=_EMPTY))
    op.add_column("delivery_change", sa.Column("detail", sa.Text, nullable=False, server_default=_EMPTY))
    op.add_column("delivery_change", sa.Column("segments_out", sa.Integer, nullable=False, server_default=_ZERO))
    op.add_column("poll", sa.Column("misses", sa.Integer, nullable=False, server_default=_ZERO))
    _name_accounts()


def _name_accounts() -> None:
    op.add_column("channel", sa.Column("account", sa.Text))
    op.execute(
        """
        UPDATE channel SET account = CASE network
            WHEN 'bluesky' THEN remote_id
            ELSE regexp_replace(lower(coalesce(substring(server_url from '^[^/]+//[^/]+'), server_url)), '[:]443$', '')
                || '#' || remote_id END
        """
    )
    # One account that was connected at two addresses was two channels: the newest stays, since the account moved there.
    op.execute(
        """
        UPDATE channel AS older SET account = older.account || ' replaced ' || older.id, state = 'disconnected',
            attention = '', key_id = '', data_key = '', secrets = '', version = older.version + 1
        FROM channel AS newer
        WHERE newer.workspace_id = older.workspace_id AND newer.network = older.network
          AND newer.account = older.account AND newer.id > older.id
        """
    )
    op.alter_column("channel", "account", nullable=False)
    op.drop_constraint("channel_once", "channel")
    op.create_unique_constraint("channel_once", "channel", ["workspace_id", "network", "account"])
    op.create_index("channel_account", "channel", ["network", "account"])
