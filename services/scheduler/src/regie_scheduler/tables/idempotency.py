"""Requests that were carried out."""

from __future__ import annotations

from sqlalchemy import Column, DateTime, Index, Table, Text
from sqlalchemy.dialects.postgresql import UUID

from regie_scheduler.tables.metadata import metadata

request = Table(
    "request",
    metadata,
    Column("workspace_id", UUID, primary_key=True),
    Column("request_id", Text, primary_key=True),
    Column("method", Text, nullable=False),
    Column("post_id", UUID, nullable=False),
    Column("create_time", DateTime(timezone=True), nullable=False),
    Index("request_create_time", "create_time"),
)
