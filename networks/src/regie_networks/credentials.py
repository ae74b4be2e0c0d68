"""What people paste as credentials, brought into the form that a network takes."""

from __future__ import annotations

import re
from collections.abc import Mapping

from regie_publisher.connectors.connector import FailureKind, Unacceptable

_TOKEN = re.compile(r"[\x21-\x7e]+")
_PROFILE_URL = re.compile(r"(?:https?://)?(?:[\w.-]+/)?profile/(?P<name>[^/?#\s]+).*", re.IGNORECASE)
_UNSEEN = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]")
_APP_PASSWORD = re.compile(r"[a-z0-9]{4}(?:[\s\u2010-\u2015-]*[a-z0-9]{4}){3}", re.IGNORECASE)
_SEPARATORS = re.compile(r"[\s\u2010-\u2015-]+")


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


def atproto_identifier(pasted: str) -> str:
    """Returns the handle, DID or e-mail address in what was pasted: also `@handle`, `at://…` or a profile's URL."""
    name = _UNSEEN.sub("", pasted).strip()
    if profile := _PROFILE_URL.fullmatch(name):
        name = profile["name"]
    name = name.removeprefix("at://").removeprefix("@").partition("/")[0].rstrip(".")
    return name if name.startswith("did:") or "@" in name else name.lower()


def atproto_password(pasted: str) -> str:
    """Returns the password; an app password, four times four characters, gets the hyphens that it was shown with."""
    password = _UNSEEN.sub("", pasted).strip()
    if not _APP_PASSWORD.fullmatch(password):
        return password
    compact = _SEPARATORS.sub("", password)
    return "-".join(compact[start : start + 4] for start in range(0, 16, 4)) if compact != password else password
