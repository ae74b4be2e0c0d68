"""The credentials of a Bluesky account, and pasted ones in the form that a server of the AT Protocol takes."""

from __future__ import annotations

import re

from regie_networks.credentials import CredentialField

FIELDS = (
    CredentialField("identifier", "Handle", "The handle, DID or e-mail address of the account.", is_secret=False),
    CredentialField("app_password", "App password", "Settings → Privacy and security → App passwords."),
)

_PROFILE_URL = re.compile(r"(?:https?://)?(?:[\w.-]+/)?profile/(?P<name>[^/?#\s]+).*", re.IGNORECASE)
_UNSEEN = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]")
_APP_PASSWORD = re.compile(r"[a-z0-9]{4}(?:[\s\u2010-\u2015-]*[a-z0-9]{4}){3}", re.IGNORECASE)
_SEPARATORS = re.compile(r"[\s\u2010-\u2015-]+")


def atproto_identifier(pasted: str) -> str:
    """Returns the handle, DID or e-mail address of the pasted text: also of `@handle`, `at://…` or a profile's URL."""
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
