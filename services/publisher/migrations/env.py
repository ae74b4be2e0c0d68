"""Runs the publisher's migrations."""

from __future__ import annotations

from regie_chassis.data.migrations import run_environment
from regie_publisher.tables.schema import metadata

run_environment(metadata)
