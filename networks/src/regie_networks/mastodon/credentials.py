"""The credentials of a Mastodon account."""

from __future__ import annotations

from regie_networks.credentials import CredentialField

FIELDS = (
    CredentialField(
        "access_token",
        "Access token",
        "Settings → Development → New application, with the scopes read, write:statuses and write:media.",
    ),
)
