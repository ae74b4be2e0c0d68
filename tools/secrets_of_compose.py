"""Writes .env for docker-compose.yml, with a generated secret for each name of .env.example."""

from __future__ import annotations

import json
import os
import secrets
import sys
from pathlib import Path

from regie_chassis.boundary.identity import new_key
from regie_local.data_directory import new_secret
from regie_local.services import secret_settings

ROOT = Path(__file__).resolve().parent.parent
KEY_PAIR = {"GATEWAY_IDENTITY_PRIVATE_KEY", "REGIE_IDENTITY_PUBLIC_KEY"}


def made_up() -> dict[str, str]:
    """Returns a value for each name in .env.example."""
    key = new_key().as_dict(private=True)
    known = {
        **{name: new_secret() for name in secret_settings()},
        "GATEWAY_IDENTITY_PRIVATE_KEY": json.dumps(key, separators=(",", ":")),
        "REGIE_IDENTITY_PUBLIC_KEY": json.dumps({k: v for k, v in key.items() if k != "d"}, separators=(",", ":")),
    }
    lines = (ROOT / ".env.example").read_text().splitlines()
    names = [line.split("=")[0] for line in lines if "=" in line and not line.startswith("#")]
    return {name: known.get(name) or _password(name) for name in names}


def _password(name: str) -> str:
    # NATS reads its own as a value of its configuration: one that began like a number would be one.
    return "n" + secrets.token_hex(24) if name.endswith("_NATS_PASSWORD") else secrets.token_urlsafe(24)


def complete(path: Path) -> None:
    """Adds missing names to a file and replaces none: its master key opens the credentials that it has sealed."""
    text = path.read_text() if path.exists() else ""
    named = {line.split("=")[0] for line in text.splitlines() if "=" in line}
    missing = {name: value for name, value in made_up().items() if name not in named}
    if KEY_PAIR & named and KEY_PAIR & set(missing):
        sys.exit(f"{path.name} has one half of the identity key; add the other, or take both out")
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.fchmod(descriptor, 0o600)
    with os.fdopen(descriptor, "a") as file:
        file.write("\n" if text and not text.endswith("\n") else "")
        file.writelines(f"{name}={value}\n" for name, value in missing.items())


def main() -> None:
    """Completes .env beside docker-compose.yml."""
    complete(ROOT / ".env")
    (ROOT / ".env").touch()


if __name__ == "__main__":
    main()
