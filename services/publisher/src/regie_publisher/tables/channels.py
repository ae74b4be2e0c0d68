"""The tables of channels."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import UUID

from regie_publisher.tables.metadata import EMPTY, TIME, ZERO, metadata

channel = sa.Table(
    "channel",
    metadata,
    sa.Column("id", UUID, primary_key=True),
    sa.Column("workspace_id", UUID, nullable=False),
    sa.Column("network", sa.Text, nullable=False),
    sa.Column("server_url", sa.Text, nullable=False),
    sa.Column("remote_id", sa.Text, nullable=False),
    sa.Column("handle", sa.Text, nullable=False),
    sa.Column("display_name", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("attention", sa.Text, nullable=False, server_default=EMPTY),
    sa.Column("create_time", TIME, nullable=False),
    sa.Column("block_time", TIME, comment="nothing is sent before: the network said when"),
    sa.Column("key_id", sa.Text, nullable=False, comment="the master key that wraps data_key"),
    sa.Column("data_key", sa.LargeBinary, nullable=False),
    sa.Column("secrets", sa.LargeBinary, nullable=False),
    sa.Column("version", sa.BigInteger, nullable=False, comment="of the secrets; a refresh is compare-and-set on it"),
    sa.Column("refresh_worker", sa.Text),
    sa.Column("refresh_expire_time", TIME, comment="of the lease; without a worker, when a lost renewal is repeated"),
    sa.Column("attention_source", sa.Text, nullable=False, server_default=EMPTY, comment="publish or observe"),
    sa.Column("requested_block_time", TIME, comment="until when the network asked to wait"),
    sa.Column("blocks", sa.Integer, nullable=False, server_default=ZERO, comment="since the last success"),
    sa.Column("refresh_losses", sa.Integer, nullable=False, server_default=ZERO, comment="renewals without an answer"),
    sa.Column("account", sa.Text, nullable=False, comment="what the network guarantees to be one account (ADR 0018)"),
    sa.UniqueConstraint("workspace_id", "network", "account", name="channel_once"),
)
sa.Index("channel_account", channel.c.network, channel.c.account)
sa.Index("channel_listing", channel.c.workspace_id, channel.c.id)
