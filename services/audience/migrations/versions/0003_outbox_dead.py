"""Outbox rows that can never be sent stand aside; the relay takes turns between workspaces (ADR 0019)."""

from __future__ import annotations

from regie_chassis.data.migrations import add_dead_outbox

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    add_dead_outbox()
