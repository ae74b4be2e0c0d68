"""The credentials that people paste: which a network takes, and a token in the form that a header takes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from regie_networks.errors import FailureKind, Unacceptable

_TOKEN = re.compile(r"[\x21-\x7e]+")


@dataclass(frozen=True, slots=True)
class CredentialField:
    """One of the credentials that a person gives; `help` names the place to get it."""

    name: str
    label: str
    help: str
    is_secret: bool = True
    is_required: bool = True


def check_credentials(fields: Sequence[CredentialField], credentials: Mapping[str, str]) -> None:
    """Raises `Unacceptable(AUTH_EXPIRED)` for a name that is none of the fields, and for a field that is missing."""
    expected = " and ".join(f"`{field.name}`" for field in fields if field.is_required)
    names = {field.name for field in fields}
    if unknown := sorted(set(credentials) - names):
        raise Unacceptable(FailureKind.AUTH_EXPIRED, f"`{unknown[0][:40]}` is no credential here; give {expected}")
    if any(field.is_required and not credentials.get(field.name) for field in fields):
        raise Unacceptable(FailureKind.AUTH_EXPIRED, f"Give {expected}")


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
