"""The OAuth of Mastodon: an app for each server, tokens that last until they are revoked."""

from __future__ import annotations

from collections.abc import Mapping

from regie_networks.oauth import OAuth


def _registration(name: str, redirect_uri: str, scope: str) -> Mapping[str, object]:
    # One redirect URI as a text: lists are understood only since 4.3.
    return {"client_name": name, "redirect_uris": redirect_uri, "scopes": scope}


OAUTH = OAuth(
    authorization_endpoint="/oauth/authorize",
    token_endpoint="/oauth/token",  # noqa: S106 - a path
    registration_endpoint="/api/v1/apps",
    registration=_registration,
    scopes=("read", "write:statuses", "write:media"),
    credentials=("access_token",),
)
