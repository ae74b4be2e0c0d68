"""`python -m regie_scheduler serve | migrate | redrive`."""

from __future__ import annotations

from pathlib import Path

from regie_chassis.process.command_line import commands

from regie_scheduler.app import NAME, build
from regie_scheduler.settings import SchedulerSettings

app = commands(NAME, SchedulerSettings, build, folder=Path(__file__).resolve().parents[2] / "migrations")

if __name__ == "__main__":
    app()
