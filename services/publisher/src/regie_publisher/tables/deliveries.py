"""The publisher's tables. Statements are written as SQL beside the use cases; this is what migrations are held to."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, UUID

metadata = sa.MetaData()

_TIME = sa.DateTime(timezone=True)
_EMPTY = sa.text("''")
_NONE = sa.text("'{}'")
_ZERO = sa.text("0")

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
    sa.Column("attention", sa.Text, nullable=False, server_default=_EMPTY),
    sa.Column("create_time", _TIME, nullable=False),
    sa.Column("block_time", _TIME, comment="nothing is sent before: the network said when"),
    sa.Column("key_id", sa.Text, nullable=False, comment="the master key that wraps data_key"),
    sa.Column("data_key", sa.LargeBinary, nullable=False),
    sa.Column("secrets", sa.LargeBinary, nullable=False),
    sa.Column("version", sa.BigInteger, nullable=False, comment="of the secrets; a refresh is compare-and-set on it"),
    sa.Column("refresh_worker", sa.Text),
    sa.Column("refresh_expire_time", _TIME, comment="of the lease; without a worker, when a lost renewal is repeated"),
    sa.Column("attention_source", sa.Text, nullable=False, server_default=_EMPTY, comment="publish or observe"),
    sa.Column("requested_block_time", _TIME, comment="until when the network asked to wait"),
    sa.Column("blocks", sa.Integer, nullable=False, server_default=_ZERO, comment="since the last success"),
    sa.Column("refresh_losses", sa.Integer, nullable=False, server_default=_ZERO, comment="renewals without an answer"),
    sa.Column("account", sa.Text, nullable=False, comment="what the network guarantees to be one account (ADR 0018)"),
    sa.UniqueConstraint("workspace_id", "network", "account", name="channel_once"),
)
sa.Index("channel_account", channel.c.network, channel.c.account)
sa.Index("channel_listing", channel.c.workspace_id, channel.c.id)

media = sa.Table(
    "media",
    metadata,
    sa.Column("id", UUID, primary_key=True),
    sa.Column("workspace_id", UUID, nullable=False),
    sa.Column("sha256", sa.LargeBinary, nullable=False, comment="of the stored bytes; also names the object"),
    sa.Column("content_type", sa.Text, nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("width", sa.Integer, nullable=False),
    sa.Column("height", sa.Integer, nullable=False),
    sa.Column("frames", sa.Integer, nullable=False, server_default=sa.text("1"), comment="more than 1 is an animation"),
    sa.Column("create_time", _TIME, nullable=False),
    sa.UniqueConstraint("workspace_id", "sha256", name="media_once"),
)

delivery = sa.Table(
    "delivery",
    metadata,
    sa.Column("id", UUID, primary_key=True),
    sa.Column("workspace_id", UUID, nullable=False),
    sa.Column("post_id", UUID, nullable=False),
    sa.Column("channel_id", UUID, nullable=False),
    sa.Column("revision", sa.BigInteger, nullable=False),
    sa.Column("network", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("act_time", _TIME, comment="when a loop has to look: next attempt, check or find, or the lease's end"),
    sa.Column("content", sa.LargeBinary, nullable=False, comment="the DueVariant, as it came"),
    sa.Column("segment_keys", ARRAY(sa.Text), nullable=False),
    sa.Column("compose_time", _TIME, nullable=False),
    sa.Column("due_time", _TIME, nullable=False),
    sa.Column("miss_time", _TIME, nullable=False),
    sa.Column("traceparent", sa.Text, nullable=False),
    sa.Column("fence", sa.BigInteger, nullable=False, server_default=_ZERO, comment="raised whenever it is taken"),
    sa.Column("worker", sa.Text, nullable=False, server_default=_EMPTY),
    sa.Column("attempt", sa.Integer, nullable=False, server_default=_ZERO),
    sa.Column("tries", sa.Integer, nullable=False, server_default=_ZERO, comment="attempts since the last progress"),
    sa.Column("finds", sa.Integer, nullable=False, server_default=_ZERO, comment="finds since it became unknown"),
    sa.Column("needs_person", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("call_end_time", _TIME, comment="of the last call that may still land; null when none may"),
    sa.Column("quiet_end_time", _TIME, comment="until when it may"),
    sa.Column("looks", sa.Integer, nullable=False, server_default=_ZERO, comment="that came back empty since then"),
    sa.Column("handles", JSONB, nullable=False, server_default=_NONE),
    sa.Column("remote_ids", ARRAY(sa.Text), nullable=False, server_default=_NONE),
    sa.Column("remote_urls", ARRAY(sa.Text), nullable=False, server_default=_NONE),
    sa.Column("processing_handle", sa.Text, nullable=False, server_default=_EMPTY),
    sa.Column("failure_kind", sa.Text, nullable=False, server_default=_EMPTY),
    sa.Column("network_message", sa.Text, nullable=False, server_default=_EMPTY),
    sa.Column("resolve_request_id", sa.Text, nullable=False, server_default=_EMPTY),
    sa.Column("detail", sa.Text, nullable=False, server_default=_EMPTY, comment="our own words about a failure"),
    sa.UniqueConstraint("post_id", "channel_id", "revision", name="delivery_once"),
    postgresql_with={"fillfactor": "70", "autovacuum_vacuum_scale_factor": "0.02"},
)
sa.Index(
    "delivery_pending_by_workspace",
    delivery.c.workspace_id,
    delivery.c.act_time,
    postgresql_where=delivery.c.state == "pending",
)
sa.Index(
    "delivery_held",
    delivery.c.act_time,
    postgresql_where=sa.text("state IN ('claimed', 'publishing')"),
)
sa.Index(
    "delivery_open_by_workspace",
    delivery.c.state,
    delivery.c.workspace_id,
    delivery.c.act_time,
    postgresql_where=sa.text("state IN ('processing', 'unknown')"),
)
# At most one that went out or may go out, whatever the revision.
sa.Index(
    "delivery_open_once",
    delivery.c.post_id,
    delivery.c.channel_id,
    unique=True,
    postgresql_where=sa.text("state NOT IN ('failed', 'cancelled', 'missed')"),
)
sa.Index("delivery_in_doubt", delivery.c.channel_id, postgresql_where=delivery.c.call_end_time.is_not(None))

remote = sa.Table(
    "remote",
    metadata,
    sa.Column("network", sa.Text, primary_key=True),
    sa.Column("account", sa.Text, primary_key=True),
    sa.Column("remote_id", sa.Text, primary_key=True, comment="or the address, where a person gave no more"),
    sa.Column("delivery_id", UUID, nullable=False),
    sa.Column("segment", sa.Integer, nullable=False),
    sa.Column("time", _TIME, nullable=False),
    comment="which delivery holds a post of an account at its server; no post belongs to two",
)

attempt = sa.Table(
    "attempt",
    metadata,
    sa.Column("delivery_id", UUID, primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("fence", sa.BigInteger, nullable=False),
    sa.Column("worker", sa.Text, nullable=False),
    sa.Column("claim_time", _TIME, nullable=False),
    sa.Column("end_time", _TIME),
    sa.Column("outcome", sa.Text, nullable=False, server_default=_EMPTY),
    sa.Column("network_message", sa.Text, nullable=False, server_default=_EMPTY),
)

delivery_change = sa.Table(
    "delivery_change",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("delivery_id", UUID, nullable=False),
    sa.Column("time", _TIME, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("cause", sa.Text, nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("network_message", sa.Text, nullable=False, server_default=_EMPTY),
    sa.Column("trace_id", sa.Text, nullable=False),
    sa.Column("detail", sa.Text, nullable=False, server_default=_EMPTY),
    sa.Column("segments_out", sa.Integer, nullable=False, server_default=_ZERO),
)
sa.Index("delivery_change_delivery", delivery_change.c.delivery_id)

cancellation = sa.Table(
    "cancellation",
    metadata,
    sa.Column("workspace_id", UUID, primary_key=True),
    sa.Column("post_id", UUID, primary_key=True),
    sa.Column("revision", sa.BigInteger, nullable=False),
    sa.Column("time", _TIME, nullable=False),
)

poll = sa.Table(
    "poll",
    metadata,
    sa.Column("delivery_id", UUID, primary_key=True),
    sa.Column("workspace_id", UUID, nullable=False),
    sa.Column("post_id", UUID, nullable=False),
    sa.Column("channel_id", UUID, nullable=False),
    sa.Column("network", sa.Text, nullable=False),
    sa.Column("remote_id", sa.Text, nullable=False),
    sa.Column("remote_url", sa.Text, nullable=False),
    sa.Column("publish_time", _TIME, nullable=False),
    sa.Column("act_time", _TIME, comment="when the numbers are read next; null when the plan is over"),
    sa.Column("fence", sa.BigInteger, nullable=False, server_default=_ZERO),
    sa.Column("failures", sa.Integer, nullable=False, server_default=_ZERO),
    sa.Column("traceparent", sa.Text, nullable=False),
    sa.Column("misses", sa.Integer, nullable=False, server_default=_ZERO, comment="readings in a row without the post"),
)
sa.Index("poll_due_by_workspace", poll.c.workspace_id, poll.c.act_time, postgresql_where=poll.c.act_time.is_not(None))

engagement = sa.Table(
    "engagement",
    metadata,
    sa.Column("channel_id", UUID, primary_key=True),
    sa.Column("post_id", UUID, primary_key=True),
    sa.Column("kind", sa.Text, primary_key=True),
    sa.Column("actor_id", sa.Text, primary_key=True),
)
