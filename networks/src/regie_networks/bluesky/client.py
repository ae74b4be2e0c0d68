"""Sessions of a Bluesky account: opened once with an app password, then renewed with the refresh token.

The password is never kept: a refresh token lives for 90 days and every renewal gives a new one, while logins are
limited to 300 a day for an account.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from http import HTTPStatus
from urllib.parse import urlencode, urlsplit

import httpx2
from regie_chassis.process.clock import Clock

from regie_networks.addresses import origin_of
from regie_networks.bounds import MAX_URL
from regie_networks.draft import Account
from regie_networks.errors import OTHER_ACCOUNT, ConnectorError, FailureKind, NotSent, OutcomeUnknown, Refused
from regie_networks.http import Response, call
from regie_networks.statuses import StatusTable

DEFAULT_SERVER = "https://bsky.social"
WEB_APP_HOSTS = ("bsky.app", "www.bsky.app", "staging.bsky.app")
"""The web application is no server; its accounts live behind the main one."""

_VISIBLE = re.compile(r"[\x21-\x7e]+")
_SESSION_ERRORS = frozenset({"ExpiredToken", "InvalidToken", "AuthMissing", "AuthenticationRequired"})
_NOT_WELCOME = (HTTPStatus.BAD_REQUEST, HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
_NO_SUCH_METHOD = (HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.NOT_IMPLEMENTED)
_MEDIA_ERRORS = frozenset({"BlobNotFound", "BlobTooLarge", "InvalidMimeType", "PayloadTooLarge"})
_BEFORE_NAMES = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.REQUEST_TIMEOUT)
STATUSES = StatusTable(
    kinds={
        400: FailureKind.CONTENT_REJECTED,
        401: FailureKind.AUTH_EXPIRED,
        403: FailureKind.AUTH_EXPIRED,
        413: FailureKind.MEDIA_REJECTED,
    },
    redirect=FailureKind.PLATFORM_ERROR,
    unproven=frozenset({408}),
    # The shortest window of a PDS.
    rate_window=timedelta(minutes=5),
)


class BlueskyClient:
    """The calls to AT Protocol servers, with their sessions and the meaning of their answers."""

    def __init__(self, client: httpx2.AsyncClient, clock: Clock) -> None:
        self._client = client
        self._clock = clock

    async def open_session(self, server_url: str, identifier: str, password: str) -> dict[str, object]:
        """Logs in. Raises `Refused(AUTH_EXPIRED)` for a wrong password."""
        body = {"identifier": identifier, "password": password}
        url = method_url(server_url, "com.atproto.server.createSession")
        response = await call(self._client, "POST", url, json=body, secrets=(password,))
        if response.status in _NOT_WELCOME and error_name(response):
            words = f"{response.error_text()} (log in with the handle and an app password)"
            raise Refused(FailureKind.AUTH_EXPIRED, words)
        # Every refusal of a server of the protocol names its error; pages and redirects come from something else.
        speaks_otherwise = response.status // 100 == 2 and not isinstance(response.json(), dict)
        if response.status // 100 == 3 or response.status in (*_NOT_WELCOME, *_NO_SUCH_METHOD) or speaks_otherwise:
            raise Refused(
                FailureKind.UNSUPPORTED, f"{urlsplit(url).hostname} is no Bluesky server: {response.error_text()}"
            )
        return self.accepted(response)

    async def call_as(
        self,
        account: Account,
        http_method: str,
        name: str,
        *,
        query: Mapping[str, str | list[str]] | None = None,
        json: object = None,
        content: bytes | None = None,
        content_type: str = "",
        timeout: float = 20.0,
    ) -> Response:
        """Makes one call in the account's name; an expired session is renewed and the call made once more.

        That is safe for every call: the server refuses an expired token before it looks at anything else.
        """

        async def attempt(secrets: Mapping[str, str]) -> Response:
            headers = {"Authorization": f"Bearer {secrets['access_jwt']}"}
            if content_type:
                headers["Content-Type"] = content_type
            url = method_url(account.server_url, name, query)
            return await call(
                self._client, http_method, url, headers=headers, json=json, content=content, timeout=timeout
            )

        used = account.credentials.secrets
        response = await attempt(used)
        if error_name(response) != "ExpiredToken":
            return response

        async def renew(secrets: Mapping[str, str]) -> Mapping[str, str]:
            return await self._renew(account.server_url, secrets)

        return await attempt(await account.credentials.refresh(used, renew))

    async def read(self, server_url: str, name: str, query: Mapping[str, str | list[str]]) -> Response:
        """Makes one public call."""
        return await call(self._client, "GET", method_url(server_url, name, query))

    def accepted(self, response: Response) -> dict[str, object]:
        """Returns the body of a success, and raises the error of any other response."""
        if response.status // 100 != 2:
            raise self.refusal(response)
        body = response.json()
        if not isinstance(body, dict):
            raise OutcomeUnknown(f"HTTP {response.status} without a readable body")
        return body

    def refusal(self, response: Response) -> ConnectorError:
        """Returns the error that a response other than 2xx stands for: by the protocol's name, else by its status."""
        status, name = response.status, error_name(response)
        rejected = _kind_of(name)
        if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN) and not name:
            # A proxy's page: the protocol's own refusals name their error.
            return OutcomeUnknown(f"HTTP {status}: {response.error_text()}")
        if rejected is not None and status < HTTPStatus.INTERNAL_SERVER_ERROR and status not in _BEFORE_NAMES:
            return Refused(rejected, response.error_text())
        return STATUSES.failure(response, now=self._clock.now(), rejected=FailureKind.PLATFORM_ERROR)

    async def _renew(self, server_url: str, used: Mapping[str, str]) -> Mapping[str, str]:
        """Renews a session. A PDS takes a used refresh token for two more hours and answers with the same successor.

        Only an error that the protocol names proves that the token is useless; a page of a proxy does not.
        """
        headers = {"Authorization": f"Bearer {used['refresh_jwt']}"}
        url = method_url(server_url, "com.atproto.server.refreshSession")
        response = await call(self._client, "POST", url, headers=headers)
        name = error_name(response)
        if response.status in _NOT_WELCOME and (name in _SESSION_ERRORS or name.startswith("Account")):
            raise Refused(FailureKind.AUTH_EXPIRED, f"{response.error_text()} (connect the channel again)")
        if response.status == HTTPStatus.TOO_MANY_REQUESTS:
            raise self.refusal(response)
        if HTTPStatus.BAD_REQUEST <= response.status < HTTPStatus.INTERNAL_SERVER_ERROR:
            raise NotSent(f"The session could not be renewed: HTTP {response.status}: {response.error_text()}")
        renewed = session_secrets(self.accepted(response))
        if renewed["did"] != used["did"]:
            raise Refused(FailureKind.AUTH_EXPIRED, OTHER_ACCOUNT)
        return renewed


def session_secrets(session: Mapping[str, object]) -> dict[str, str]:
    """Returns the stored part of a session. Raises `OutcomeUnknown` where the server left something out."""
    names = {"access_jwt": "accessJwt", "refresh_jwt": "refreshJwt", "did": "did"}
    secrets = {ours: session.get(theirs) for ours, theirs in names.items()}
    # A token goes into a header, which carries visible ASCII alone.
    found = {name: value for name, value in secrets.items() if isinstance(value, str) and _VISIBLE.fullmatch(value)}
    if len(found) < len(names):
        raise OutcomeUnknown("The server gave a session without its tokens")
    return found


def _kind_of(name: str) -> FailureKind | None:
    """Returns the failure of an error's name, None for a name that adds nothing to its status."""
    if name in _MEDIA_ERRORS:
        return FailureKind.MEDIA_REJECTED
    return FailureKind.AUTH_EXPIRED if name in _SESSION_ERRORS or name.startswith("Account") else None


def server_address(given: str, main_server: str) -> str:
    """Returns the server behind an address in its plain form; the main one for none, and for the web application's."""
    if not given or urlsplit(given).hostname in WEB_APP_HOSTS:
        return main_server
    return origin_of(given)


def home_server(session: Mapping[str, object], asked_url: str) -> str:
    """Returns the server that holds the account: the one in its DID document, else the server of the call.

    A document never moves tokens from an encrypted to a plain connection.
    """
    document = session.get("didDoc")
    services = document.get("service") if isinstance(document, dict) else None
    for service in services if isinstance(services, list) else []:
        if not isinstance(service, dict) or not str(service.get("id", "")).endswith("#atproto_pds"):
            continue
        endpoint = str(service.get("serviceEndpoint", ""))
        allowed = ("https",) if asked_url.startswith("https://") else ("https", "http")
        if len(endpoint) <= MAX_URL and _scheme_of(endpoint) in allowed:
            return endpoint.rstrip("/")
    return asked_url


def method_url(server_url: str, name: str, query: Mapping[str, str | list[str]] | None = None) -> str:
    url = f"{server_url.rstrip('/')}/xrpc/{name}"
    return f"{url}?{urlencode(query, doseq=True)}" if query else url


def error_name(response: Response) -> str:
    """Returns the machine-readable error of an answer, or an empty string."""
    body = response.json() if response.status >= HTTPStatus.BAD_REQUEST else None
    return str(body.get("error", "")) if isinstance(body, dict) else ""


def _scheme_of(url: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    return parts.scheme if parts.hostname else ""
