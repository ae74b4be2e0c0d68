"""Argument parsing only: serve, migrate, redrive."""

from __future__ import annotations

from pathlib import Path

from regie_chassis.process.command_line import commands

from regie_metrics.app import build
from regie_metrics.settings import MetricsSettings

app = commands("metrics", MetricsSettings, build, folder=Path(__file__).resolve().parents[2] / "migrations")

if __name__ == "__main__":
    app()
