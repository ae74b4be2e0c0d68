"""The credentials of an account of the sandbox network."""

from __future__ import annotations

from regie_networks.credentials import CredentialField

FIELDS = (
    CredentialField("access_token", "Access token", "`sandbox-<name>` is the account <name>, made on first use."),
    CredentialField(
        "refresh_token", "Refresh token", "Renews an expired access token; learnt when absent.", is_required=False
    ),
    CredentialField(
        "client_id", "App", "The app that a refresh token of OAuth was given to.", is_secret=False, is_required=False
    ),
)
