"""The OAuth of the sandbox network: public apps, and refresh tokens that rotate."""

from __future__ import annotations

from collections.abc import Mapping

from regie_networks.oauth import OAuth


def _registration(name: str, redirect_uri: str, scope: str) -> Mapping[str, object]:
    return {"client_name": name, "redirect_uris": [redirect_uri], "scope": scope}


OAUTH = OAuth(
    authorization_endpoint="/oauth/authorize",
    token_endpoint="/oauth/token",  # noqa: S106 - a path
    registration_endpoint="/oauth/register",
    registration=_registration,
    scopes=("posts",),
    credentials=("access_token", "refresh_token", "client_id"),
)
