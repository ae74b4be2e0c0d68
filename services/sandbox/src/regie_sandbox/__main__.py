"""The command line: `python -m regie_sandbox serve`."""

from __future__ import annotations

import typer
from pydantic import ValidationError

from regie_sandbox.server import run
from regie_sandbox.settings import Settings, WrongSetting

cli = typer.Typer(no_args_is_help=True, add_completion=False)


@cli.callback()
def sandbox() -> None:
    """A stand-in social network for trying and testing Régie."""


@cli.command()
def serve() -> None:
    """Answers on SANDBOX_HOST:SANDBOX_PORT until it is stopped."""
    try:
        settings = Settings()
    except ValidationError as error:
        for problem in error.errors():
            message = (problem.get("ctx") or {}).get("error", problem["msg"])
            typer.echo(f"setting SANDBOX_{str(problem['loc'][0]).upper()}: {message}", err=True)
        raise typer.Exit(2) from None
    try:
        run(settings)
    except WrongSetting as error:
        typer.echo(f"setting {error}", err=True)
        raise typer.Exit(2) from None


if __name__ == "__main__":
    cli()
