"""The gateway's command line: serve, migrate, redrive, bootstrap."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer
from regie.ids.v1.prefixes import WORKSPACE
from regie_chassis.boundary.ids import show_id
from regie_chassis.boundary.telemetry import configure_logs
from regie_chassis.process.clock import SystemClock
from regie_chassis.process.command_line import commands, load_settings
from regie_chassis.process.service import open_database

from regie_gateway.access.bootstrap import Bootstrapped, bootstrap
from regie_gateway.app import NAME, build
from regie_gateway.settings import GatewaySettings

app = commands(NAME, GatewaySettings, build, folder=Path(__file__).resolve().parents[2] / "migrations")


@app.command("bootstrap")
def bootstrap_command(
    workspace: Annotated[str, typer.Option(help="The workspace's name.")],
    show_new_key: Annotated[bool, typer.Option(help="Makes another key for a workspace that exists.")] = False,
) -> None:
    """Makes a workspace and prints its first API key, once."""
    settings = load_settings(GatewaySettings)
    configure_logs(NAME, settings.log_level)

    async def main() -> Bootstrapped:
        database = open_database(settings, f"{NAME}-bootstrap")
        try:
            return await bootstrap(database, SystemClock(), name=workspace, new_key=show_new_key)
        finally:
            await database.close()

    made = asyncio.run(main())
    workspace_id = show_id(WORKSPACE, made.workspace_id)
    typer.echo(f"workspace {workspace_id} {'created' if made.created else 'exists'}", err=True)
    if made.api_key:
        typer.echo(made.api_key)


if __name__ == "__main__":
    app()
