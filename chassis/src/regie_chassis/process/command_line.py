"""The commands that every service has: serve, migrate, redrive, redrive-outbox."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, NoReturn, TypeVar

import typer
from pydantic import ValidationError
from pydantic_settings import BaseSettings

from regie_chassis.boundary.telemetry import Telemetry, configure_logs
from regie_chassis.boundary.validation import sentence
from regie_chassis.data import migrations
from regie_chassis.events import dead_letters, outbox
from regie_chassis.process.runtime import run
from regie_chassis.process.service import Service, open_database
from regie_chassis.process.settings import ServiceSettings, WrongSetting

MAX_NUMBER = 2**63 - 1  # of a row

Settings = TypeVar("Settings", bound=ServiceSettings)
Loaded = TypeVar("Loaded", bound=BaseSettings)


def commands(name: str, load: type[Settings], build: Callable[[Settings], Service], *, folder: Path) -> typer.Typer:
    """Returns a service's command line. `folder` holds its migrations unless a setting names another."""
    app = typer.Typer(name=name, help=f"Régie's {name} service.", no_args_is_help=True, add_completion=False)

    @app.command()
    def serve() -> None:
        """Runs the service until SIGTERM."""
        settings = load_settings(load)
        telemetry = Telemetry(
            name,
            endpoint=settings.otlp_endpoint,
            sample_ratio=settings.trace_sample_ratio,
            log_level=settings.log_level,
        )
        try:
            run(lambda: build(settings).app)
        except WrongSetting as error:
            typer.echo(f"setting {error}", err=True)
            raise typer.Exit(2) from None
        finally:
            telemetry.stop()

    @app.command()
    def migrate() -> None:
        """Brings the service's database to the newest form."""
        settings = load_settings(load)
        configure_logs(name, settings.log_level)
        asyncio.run(migrations.upgrade(settings.database_url.get_secret_value(), settings.migrations or folder))

    _add_redrive(app, name, load, build)
    _add_redrive_outbox(app, name, load)
    return app


def _add_redrive(app: typer.Typer, name: str, load: type[Settings], build: Callable[[Settings], Service]) -> None:
    @app.command()
    def redrive(
        letter: Annotated[
            int | None, typer.Option(min=1, max=MAX_NUMBER, help="Only this dead letter; all by default.")
        ] = None,
    ) -> None:
        """Handles dead letters again and prints the outcome of each."""
        settings = load_settings(load)
        configure_logs(name, settings.log_level)

        async def main() -> dead_letters.Redriven:
            subscriptions = build(settings).events.subscriptions
            database = open_database(settings, f"{name}-redrive")
            try:
                return await dead_letters.redrive(database, subscriptions, letter=letter)
            finally:
                await database.close()

        outcome = asyncio.run(main())
        for done in outcome.handled:
            typer.echo(f"{done}: handled")
        for failed, reason in outcome.failed.items():
            typer.echo(f"{failed}: failed again: {reason}", err=True)
        if letter is not None and not outcome.handled and not outcome.failed:
            _end_without("dead letter", letter, "--letter", "SELECT id, dead_time, reason FROM dead_letter ORDER BY id")
        raise typer.Exit(1 if outcome.failed else 0)


def _add_redrive_outbox(app: typer.Typer, name: str, load: type[Settings]) -> None:
    @app.command()
    def redrive_outbox(
        row: Annotated[
            int | None, typer.Option(min=1, max=MAX_NUMBER, help="Only this outbox row; all dead ones by default.")
        ] = None,
    ) -> None:
        """Lets events that could not be sent be tried again."""
        settings = load_settings(load)
        configure_logs(name, settings.log_level)

        async def main() -> list[int]:
            database = open_database(settings, f"{name}-redrive")
            try:
                return await outbox.redrive(database, row=row)
            finally:
                await database.close()

        given = asyncio.run(main())
        for one in given:
            typer.echo(f"{one}: waits to be sent")
        if row is not None and not given:
            _end_without(
                "dead event",
                row,
                "--row",
                "SELECT id, dead_time, dead_reason FROM outbox WHERE dead_time IS NOT NULL ORDER BY id",
            )


def _end_without(kind: str, number: int, option: str, query: str) -> NoReturn:
    typer.echo(f"there is no {kind} {number} here; leave {option} out for all, or look: {query}", err=True)
    raise typer.Exit(1)


def load_settings(load: type[Loaded]) -> Loaded:
    """Returns the settings of the environment, or ends the process with 2 and a line for each wrong setting."""
    try:
        return load()
    except ValidationError as error:
        prefix = str(load.model_config.get("env_prefix", ""))
        for problem in error.errors():
            name = str(problem["loc"][0]) if problem["loc"] else ""
            shown = (prefix + name).upper() if name in load.model_fields else name
            typer.echo(f"setting {shown}: {sentence(problem)}", err=True)
        raise typer.Exit(2) from None
