"""Writes .env for docker-compose.yml: what .env.example names, made up."""

from __future__ import annotations

import base64
import json
import os
import secrets
import sys
from pathlib import Path

from regie_chassis.identity import new_key

ROOT = Path(__file__).resolve().parent.parent


def made_up() -> dict[str, str]:
    """Returns a value for each name in .env.example."""
    key = new_key().as_dict(private=True)
    known = {
        "PUBLISHER_MASTER_KEY": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
        "GATEWAY_IDENTITY_PRIVATE_KEY": json.dumps(key, separators=(",", ":")),
        "REGIE_IDENTITY_PUBLIC_KEY": json.dumps({k: v for k, v in key.items() if k != "d"}, separators=(",", ":")),
    }
    lines = (ROOT / ".env.example").read_text().splitlines()
    names = [line.split("=")[0] for line in lines if "=" in line and not line.startswith("#")]
    return {name: known.get(name) or secrets.token_urlsafe(24) for name in names}


def main() -> None:
    """Never replaces a file that is there: the master key in it opens what it has sealed."""
    try:
        descriptor = os.open(ROOT / ".env", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        sys.exit(".env is there already; its keys open what was sealed with them")
    with os.fdopen(descriptor, "w") as file:
        file.writelines(f"{name}={value}\n" for name, value in made_up().items())


if __name__ == "__main__":
    main()
