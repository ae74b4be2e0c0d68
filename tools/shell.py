"""Opens a shell in the environment of a service that `make run` has started, or runs one command in it.

The settings are those of the service's process, `python` is the project's, and `psql` opens the service's database.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

from regie_chassis.process.settings import WrongSetting
from regie_local.data_directory import DataDirectory, folder_from_environment
from regie_local.postgres import postgres_program
from regie_local.services import service_specs


def main() -> int:
    """Becomes the shell or the command; returns the process's exit status where there is nothing to become."""
    service, *command = sys.argv[1:] or [""]
    if service not in service_specs():
        print(f"setting SERVICE: give one of {', '.join(service_specs())}, as in SERVICE=gateway", file=sys.stderr)
        return 2
    try:
        environments = DataDirectory(folder_from_environment()).read_environments()
    except WrongSetting as error:
        print(f"setting {error}", file=sys.stderr)
        return 2
    if service not in environments:
        print("nothing runs in this folder; start `make run` first, in another terminal", file=sys.stderr)
        return 1
    command = command or [os.environ.get("SHELL", "/bin/sh")]
    environment = environment_of(service, environments[service])
    os.environ["PATH"] = environment["PATH"]  # the command itself is looked up by this one's
    try:
        os.execvpe(command[0], command, environment)  # noqa: S606  # the user's own command
    except OSError as error:
        print(f"{command[0]} does not start: {error.strerror}", file=sys.stderr)
        return 127


def environment_of(service: str, settings: Mapping[str, str]) -> dict[str, str]:
    """Returns the environment of a command beside a service."""
    database = urlsplit(settings[f"{service.upper()}_DATABASE_URL"])
    programs = [Path(sys.executable).parent, postgres_program("psql").parent]
    return {
        **os.environ,
        **settings,
        "PATH": os.pathsep.join([*map(str, programs), os.environ.get("PATH", os.defpath)]),
        "PGHOST": database.hostname or "",
        "PGPORT": str(database.port or 5432),
        "PGUSER": database.username or "",
        "PGPASSWORD": unquote(database.password or ""),
        "PGDATABASE": database.path.lstrip("/"),
    }


if __name__ == "__main__":
    sys.exit(main())
