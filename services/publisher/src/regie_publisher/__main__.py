"""The publisher's command line: serve, migrate, redrive."""

from __future__ import annotations

from pathlib import Path

from regie_chassis.process.command_line import commands

from regie_publisher.app import NAME, build
from regie_publisher.settings import PublisherSettings

app = commands(NAME, PublisherSettings, build, folder=Path(__file__).resolve().parents[2] / "migrations")

if __name__ == "__main__":
    app()
