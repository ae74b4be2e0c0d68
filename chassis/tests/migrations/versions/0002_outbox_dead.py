"""Outbox rows that can never be sent stand aside; the relay takes turns between workspaces."""

from __future__ import annotations

from regie_chassis.data.migrations import add_dead_outbox

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    add_dead_outbox()
