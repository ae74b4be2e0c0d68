"""Argument parsing only: serve, migrate, redrive."""

from __future__ import annotations

from pathlib import Path

from regie_chassis.process.command_line import commands

from regie_audience.app import build
from regie_audience.settings import AudienceSettings

app = commands("audience", AudienceSettings, build, folder=Path(__file__).resolve().parents[2] / "migrations")

if __name__ == "__main__":
    app()
