"""The tables of media."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import UUID

from regie_publisher.tables.metadata import TIME, metadata

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
    sa.Column("duration", sa.Interval, nullable=False, server_default=sa.text("'0'"), comment="of a video"),
    sa.Column("create_time", TIME, nullable=False),
    sa.UniqueConstraint("workspace_id", "sha256", name="media_once"),
)
