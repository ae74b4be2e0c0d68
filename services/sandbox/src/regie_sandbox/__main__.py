"""The command line: `python -m regie_sandbox serve`."""

from __future__ import annotations

import typer

from regie_sandbox.server import run
from regie_sandbox.settings import Settings

cli = typer.Typer(no_args_is_help=True, add_completion=False)


@cli.callback()
def sandbox() -> None:
    """A stand-in social network for trying and testing Régie."""


@cli.command()
def serve() -> None:
    """Answers on SANDBOX_HOST:SANDBOX_PORT until it is stopped."""
    run(Settings())


if __name__ == "__main__":
    cli()
