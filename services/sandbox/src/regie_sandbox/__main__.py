"""The command line: `python -m regie_sandbox serve`."""

from __future__ import annotations

import typer
from pydantic import ValidationError

from regie_sandbox.server import run
from regie_sandbox.settings import Settings

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
            typer.echo(f"setting SANDBOX_{str(problem['loc'][0]).upper()}: {problem['msg']}", err=True)
        raise typer.Exit(2) from None
    run(settings)


if __name__ == "__main__":
    cli()
