"""Decisions of workspaces."""

from __future__ import annotations

from sqlalchemy import Column, DateTime, Interval, Table
from sqlalchemy.dialects.postgresql import UUID

from regie_scheduler.tables.metadata import metadata

workspace_policy = Table(
    "workspace_policy",
    metadata,
    Column("workspace_id", UUID, primary_key=True),
    Column("missed_after", Interval, nullable=False),
    Column("update_time", DateTime(timezone=True), nullable=False),
)
