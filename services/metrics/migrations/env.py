"""Alembic's entry."""

from __future__ import annotations

from regie_chassis.data.migrations import run_environment
from regie_metrics.tables import metadata

run_environment(metadata)
