"""Brings a pasted access token into the form that a header takes."""

from __future__ import annotations

import re
from collections.abc import Mapping

from regie_networks.errors import FailureKind, Unacceptable

_TOKEN = re.compile(r"[\x21-\x7e]+")


def token_of(credentials: Mapping[str, str], name: str) -> str:
    """Returns a token that a header can carry. Raises Unacceptable(AUTH_EXPIRED)."""
    token = re.sub(r"(?i)^bearer(\s+|$)", "", credentials.get(name, "").strip())
    if not token:
        raise Unacceptable(FailureKind.AUTH_EXPIRED, f"Give `{name}`")
    if not _TOKEN.fullmatch(token):
        raise Unacceptable(
            FailureKind.AUTH_EXPIRED, f"`{name}` holds blanks or characters that no token has: copy it again"
        )
    return token
