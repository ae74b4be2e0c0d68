"""One server as one token sees it: calls, and the meaning of refusals.

Only the status decides. The words are in the account's language, and many servers of the family answer errors
with HTML or plain text, so no body is needed to know the outcome.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus
from urllib.parse import urlsplit

import httpx2
from regie_chassis.process.clock import Clock

from regie_networks.addresses import origin_of
from regie_networks.bounds import is_total
from regie_networks.errors import FailureKind, Refused, Unacceptable
from regie_networks.http import Response, call
from regie_networks.statuses import StatusTable

_ABSENT = (HTTPStatus.NOT_FOUND, HTTPStatus.GONE)
STATUSES = StatusTable(
    # Tokens have no refresh. 403 is a missing scope or a suspended account: both need a person to reconnect.
    kinds={401: FailureKind.AUTH_EXPIRED, 403: FailureKind.AUTH_EXPIRED},
    redirect=FailureKind.UNSUPPORTED,
    # These may follow an effect: a redirect elsewhere, a proxy's time limit, a first call under the key.
    unproven=frozenset({303, 408, 409}),
    # The window of Mastodon and GoToSocial.
    rate_window=timedelta(minutes=5),
)
READ_TIMEOUT = 15.0
"""Seconds."""


@dataclass(frozen=True, slots=True)
class MastodonClient:
    """The server and the token of a call. `url` is scheme and host, without a path."""

    client: httpx2.AsyncClient
    clock: Clock
    url: str
    token: str

    async def ask(
        self,
        method: str,
        path: str,
        *,
        rejected: FailureKind,
        absent: FailureKind | None,
        headers: Mapping[str, str] | None = None,
        json: object = None,
        content: bytes | AsyncIterable[bytes] | None = None,
        params: Mapping[str, str] | None = None,
        timeout: float = READ_TIMEOUT,
    ) -> Response:
        """Makes one call and returns its 2xx answer.

        `rejected` is the kind of failure that a 4xx about the content stands for, `absent` that of 404 and 410;
        with `absent=None` those two are returned to the caller.
        """
        response = await call(
            self.client,
            method,
            self.url + path,
            headers={"Authorization": f"Bearer {self.token}", **(headers or {})},
            json=json,
            content=content,
            params=params,
            timeout=timeout,
        )
        if response.status in (HTTPStatus.BAD_REQUEST, HTTPStatus.FORBIDDEN) and response.json() is None:
            # Takahe's answer to a bad token. A proxy's to a request that it dislikes looks the same, so the token is
            # asked about: where it is good, no person has to connect anything.
            await self.verify()
            raise Refused(_of_page(response.status, rejected), response.error_text())
        self._judge(response, rejected, absent)
        return response

    async def verify(self) -> Response:
        """Returns the answer about the token's own account; raises `Refused(AUTH_EXPIRED)` for a bad token."""
        response = await call(
            self.client,
            "GET",
            self.url + "/api/v1/accounts/verify_credentials",
            headers={"Authorization": f"Bearer {self.token}"},
            timeout=READ_TIMEOUT,
        )
        self._judge(response, FailureKind.AUTH_EXPIRED, FailureKind.UNSUPPORTED)
        return response

    def _judge(self, response: Response, rejected: FailureKind, absent: FailureKind | None) -> None:
        status = response.status
        if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES or (status in _ABSENT and absent is None):
            return
        kind = absent if status in _ABSENT and absent is not None else rejected
        raise STATUSES.failure(response, now=self.clock.now(), rejected=kind)


def _of_page(status: int, rejected: FailureKind) -> FailureKind:
    """Returns the meaning of a refusal in the form of a page, once the token is known to be good."""
    return FailureKind.PLATFORM_ERROR if status == HTTPStatus.FORBIDDEN else rejected


def server_origin(address: str) -> str:
    """Returns the server behind an address in its plain form. Raises `Unacceptable` for none."""
    if not address:
        message = "Mastodon has no main server: give `server_url`, such as https://mastodon.example"
        raise Unacceptable(FailureKind.UNSUPPORTED, message)
    return origin_of(address)


def host_of(url: str) -> str:
    return urlsplit(url).netloc


def text_of(body: object, name: str) -> str:
    """Returns a string member of a JSON object, or an empty string where there is none."""
    value = body.get(name) if isinstance(body, dict) else None
    return value if isinstance(value, str) else ""


def count_of(body: object, name: str) -> int | None:
    """Returns a non-negative whole number of a JSON object, or None where there is none that a limit can be."""
    value = body.get(name) if isinstance(body, dict) else None
    return value if isinstance(value, int) and is_total(value) else None
