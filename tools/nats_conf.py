"""Renders the users in deploy/nats/nats.conf from the events that services read and publish; run by `make services`."""

from __future__ import annotations

import re
from pathlib import Path

from regie_local.nats_users import user_permissions

FILE = Path(__file__).resolve().parent.parent / "deploy" / "nats" / "nats.conf"
BLOCK = re.compile(r"(# BEGIN USERS[^\n]*\n).*(# END USERS)", re.DOTALL)


def users_block() -> str:
    """Returns the `authorization` block; the passwords come from the server's environment."""
    lines = ["authorization {", "  users: ["]
    for user, may in user_permissions().items():
        lines += [f"    {{ user: {user}, password: ${user.upper()}_NATS_PASSWORD, permissions: {{"]
        for name, subjects in (("publish", may.publish), ("subscribe", may.subscribe)):
            lines += [f"      {name}: {{ allow: [", *(f'        "{subject}"' for subject in subjects), "      ] }"]
        lines += ["    } }"]
    return "\n".join([*lines, "  ]", "}", ""])


def main() -> None:
    """Writes the block between its marks."""
    text = FILE.read_text()
    FILE.write_text(BLOCK.sub(lambda found: found[1] + users_block() + found[2], text))


if __name__ == "__main__":
    main()
