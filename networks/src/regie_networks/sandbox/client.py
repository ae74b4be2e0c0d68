"""Calls to a sandbox network as one account, and the meaning of a refusal."""

from __future__ import annotations

from collections.abc import AsyncIterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import TypedDict, Unpack

import httpx2

from regie_networks.draft import Account
from regie_networks.errors import OTHER_ACCOUNT, FailureKind, NotSent, OutcomeUnknown, Refused, Unacceptable
from regie_networks.http import Response, call
from regie_networks.oauth import OAuthApp, OAuthFlow
from regie_networks.sandbox.oauth import OAUTH
from regie_networks.statuses import StatusTable

STATUSES = StatusTable(
    kinds={
        401: FailureKind.AUTH_EXPIRED,
        413: FailureKind.MEDIA_REJECTED,
        415: FailureKind.MEDIA_REJECTED,
    },
    redirect=None,
    # These may follow an effect: a proxy's time limit, an answer about the first call.
    unproven=frozenset({408, 409}),
    rate_window=timedelta(seconds=60),
)


class RequestParts(TypedDict, total=False):
    """The parts of a request beside its method and path."""

    headers: Mapping[str, str]
    json: object
    content: bytes | AsyncIterable[bytes]
    params: Mapping[str, str]


class SandboxClient:
    """Makes calls, and renews an access token that has expired."""

    def __init__(self, client: httpx2.AsyncClient) -> None:
        self._client = client
        self._flow = OAuthFlow(client, OAUTH)

    async def ask(self, account: Account, method: str, path: str, **parts: Unpack[RequestParts]) -> Response:
        """Makes a call as the account; where its token has expired, renews it and makes the call once more.

        A 401 is an answer without an effect, so that even a publish may follow it.
        """

        async def renew(used: Mapping[str, str]) -> Mapping[str, str]:
            renewed = await self.renew(account.server_url, used)
            await self._check_account(account, renewed)
            return renewed

        secrets = account.credentials.secrets
        response = await self.send(account.server_url, secrets, method, path, **parts)
        if response.status == httpx2.codes.UNAUTHORIZED and secrets.get("refresh_token"):
            secrets = await account.credentials.refresh(secrets, renew)
            response = await self.send(account.server_url, secrets, method, path, **parts)
        return response

    async def _check_account(self, account: Account, secrets: Mapping[str, str]) -> None:
        """Raises Refused where renewed secrets open another account: the two tokens of a channel are given apart."""
        response = await self.send(account.server_url, secrets, "GET", "/api/v1/account")
        if text_of(document_of(response), "id") != account.remote_id:
            raise Refused(FailureKind.AUTH_EXPIRED, OTHER_ACCOUNT)

    async def send(
        self, server_url: str, secrets: Mapping[str, str], method: str, path: str, **parts: Unpack[RequestParts]
    ) -> Response:
        if not secrets.get("access_token"):
            raise Unacceptable(FailureKind.AUTH_EXPIRED, "There is no access_token; connect the channel again.")
        parts["headers"] = {"Authorization": f"Bearer {secrets['access_token']}", **parts.get("headers", {})}
        return await call(self._client, method, server_url.rstrip("/") + path, **parts)

    async def renew(self, server_url: str, used: Mapping[str, str]) -> Mapping[str, str]:
        """Gets a new access token.

        A refresh token of OAuth rotates. The refresh token of a pasted account stays valid, so that a lost renewal
        can be repeated.
        """
        if client_id := used.get("client_id"):
            app = OAuthApp(client_id, redirect_uri="")
            return await self._flow.refresh(server_url.rstrip("/"), app, refresh_token=used["refresh_token"])
        sent = {"refresh_token": used["refresh_token"]}
        url = server_url.rstrip("/") + "/api/v1/token/refresh"
        response = await call(self._client, "POST", url, json=sent, secrets=tuple(sent.values()))
        try:
            document = document_of(response)
        except Refused as error:
            if error.kind in (FailureKind.AUTH_EXPIRED, FailureKind.RATE_LIMITED):
                raise
            raise NotSent(f"The access token has expired and could not be renewed: {error}") from error
        if not (access_token := text_of(document, "access_token")):
            raise OutcomeUnknown("The access token has expired, and no new one came back")
        return {
            "access_token": access_token,
            "refresh_token": text_of(document, "refresh_token") or used["refresh_token"],
        }


def document_of(response: Response, *, rejected: FailureKind = FailureKind.CONTENT_REJECTED) -> Mapping[str, object]:
    """Returns the JSON object of a 2xx response, and raises the error that any other stands for."""
    document = response.json()
    if not 200 <= response.status <= 299:
        if text_of(document, "error").startswith("media_"):
            rejected = FailureKind.MEDIA_REJECTED
        kind = rejected if response.status == 422 else FailureKind.PLATFORM_ERROR
        raise STATUSES.failure(response, now=datetime.now(UTC), rejected=kind)
    if not isinstance(document, dict):
        raise OutcomeUnknown(f"The response {response.status} is not the JSON object that belongs there")
    return document


def text_of(document: object, name: str) -> str:
    """Returns a string member of a JSON object, or an empty string where there is none."""
    value = document.get(name) if isinstance(document, Mapping) else None
    return value if isinstance(value, str) else ""


def objects_of(rows: object) -> list[Mapping[str, object]]:
    """Returns the objects of a JSON list, without its other members."""
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
