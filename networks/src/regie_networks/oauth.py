"""OAuth 2.0 with PKCE (RFC 6749, RFC 7636): a person lets us into an account without giving us a password."""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

import httpx2

from regie_networks.errors import ConnectorError, FailureKind, NotSent, OutcomeUnknown, Refused
from regie_networks.http import Response, call
from regie_networks.statuses import StatusTable

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
STATUSES = StatusTable(
    kinds={},
    redirect=FailureKind.UNSUPPORTED,
    unproven=frozenset({303, 408, 409}),
    rate_window=timedelta(seconds=60),
)
_TOKEN = re.compile(r"[\x21-\x7e]+")


@dataclass(frozen=True, slots=True)
class OAuth:
    """The part of a network's descriptor that is about OAuth. Endpoints are paths at the account's server.

    `registration` gives the body that registers an app, from its name, its redirect URI and its scope. `credentials`
    names the members of an answer that `connect` takes.
    """

    authorization_endpoint: str
    token_endpoint: str
    registration_endpoint: str
    registration: Callable[[str, str, str], Mapping[str, object]]
    scopes: tuple[str, ...]
    credentials: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class OAuthApp:
    """An app as one server knows it. The secret is empty for a public one."""

    client_id: str
    redirect_uri: str
    client_secret: str = field(default="", repr=False)


def new_verifier() -> str:
    """Returns a fresh code verifier; it stays here, and only its hash goes out with the person (RFC 7636, 4.1)."""
    return secrets.token_urlsafe(48)


class OAuthFlow:
    """The calls of one network's flow. Keeps nothing: app, state and verifier are the caller's."""

    def __init__(self, client: httpx2.AsyncClient, oauth: OAuth) -> None:
        self._client = client
        self._oauth = oauth

    async def register(self, server_url: str, *, name: str, redirect_uri: str) -> OAuthApp:
        """Makes an app known to a server. Raises `Refused(UNSUPPORTED)` where the server knows no apps."""
        body = self._oauth.registration(name, redirect_uri, " ".join(self._oauth.scopes))
        response = await call(self._client, "POST", server_url + self._oauth.registration_endpoint, json=body)
        document = _document(response, rejected=FailureKind.UNSUPPORTED)
        client_id, client_secret = document.get("client_id"), document.get("client_secret") or ""
        if not _is_token(client_id) or not isinstance(client_secret, str):
            raise OutcomeUnknown("The server registered the app and did not say its id")
        return OAuthApp(str(client_id), redirect_uri, client_secret)

    def authorize_url(self, server_url: str, app: OAuthApp, *, state: str, verifier: str) -> str:
        """Returns the address that asks a person; they come back to the redirect URI with `code` and `state`."""
        digest = hashlib.sha256(verifier.encode()).digest()
        query = {
            "response_type": "code",
            "client_id": app.client_id,
            "redirect_uri": app.redirect_uri,
            "scope": " ".join(self._oauth.scopes),
            "state": state,
            "code_challenge": base64.urlsafe_b64encode(digest).decode().rstrip("="),
            "code_challenge_method": "S256",
        }
        return f"{server_url}{self._oauth.authorization_endpoint}?{urlencode(query)}"

    async def exchange(self, server_url: str, app: OAuthApp, *, code: str, verifier: str) -> Mapping[str, str]:
        """Returns the credentials that `connect` takes for a code, which is good for one call.

        Raises `Refused(AUTH_EXPIRED)` for a code that is spent, too old or another's; `OutcomeUnknown` where the answer
        is lost: then the person is asked once more.
        """
        grant = {"grant_type": "authorization_code", "code": code, "code_verifier": verifier}
        return await self._tokens(server_url, app, {**grant, "redirect_uri": app.redirect_uri})

    async def refresh(self, server_url: str, app: OAuthApp, *, refresh_token: str) -> Mapping[str, str]:
        """Returns new credentials; where tokens rotate, the old refresh token is spent.

        Raises as the `renew` of `Credentials.refresh` does.
        """
        grant = {"grant_type": "refresh_token", "refresh_token": refresh_token}
        try:
            return {"refresh_token": refresh_token, **await self._tokens(server_url, app, grant)}
        except Refused as error:
            if error.kind in (FailureKind.AUTH_EXPIRED, FailureKind.RATE_LIMITED):
                raise
            raise NotSent(f"The access token has expired and could not be renewed: {error}") from error

    async def _tokens(self, server_url: str, app: OAuthApp, grant: Mapping[str, str]) -> Mapping[str, str]:
        form = {**grant, "client_id": app.client_id}
        if app.client_secret:
            form["client_secret"] = app.client_secret
        hidden = [form[name] for name in _SECRET_MEMBERS if name in form]
        url = server_url + self._oauth.token_endpoint
        response = await call(
            self._client, "POST", url, headers=FORM, content=urlencode(form).encode(), secrets=(*hidden,)
        )
        document = {"client_id": app.client_id, **_document(response, rejected=FailureKind.PLATFORM_ERROR)}
        kept = {name: value for name in self._oauth.credentials if isinstance(value := document.get(name), str)}
        if not _is_token(kept.get("access_token")) or not all(map(_is_token, kept.values())):
            raise OutcomeUnknown("The server's answer holds no token that can be used")
        return kept


_SECRET_MEMBERS = ("code", "code_verifier", "refresh_token", "client_secret")


def _document(response: Response, *, rejected: FailureKind) -> Mapping[str, object]:
    document = response.json()
    if response.status // 100 != 2:
        raise _refusal(response, document, rejected)
    if not isinstance(document, dict):
        raise OutcomeUnknown(f"HTTP {response.status} without a readable body")
    return document


def _refusal(response: Response, document: object, rejected: FailureKind) -> ConnectorError:
    """Returns the error of a refusal: by the name that RFC 6749, section 5.2 gives it, else by its status."""
    name = document.get("error") if isinstance(document, dict) else None
    if name == "invalid_grant" and response.status in (400, 401):
        return Refused(FailureKind.AUTH_EXPIRED, f"{response.error_text()} (connect the channel again)")
    return STATUSES.failure(response, now=datetime.now(UTC), rejected=rejected)


def _is_token(value: object) -> bool:
    return isinstance(value, str) and _TOKEN.fullmatch(value) is not None
