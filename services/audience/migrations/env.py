"""Alembic's entry."""

from __future__ import annotations

from regie_audience.tables import metadata
from regie_chassis.data.migrations import run_environment

run_environment(metadata)
