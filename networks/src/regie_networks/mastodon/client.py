"""One server as one token sees it: calls, and what a refusal means.

Only the status decides. The words are in the account's language, and many servers of the family answer errors
with HTML or plain text, so no body is ever needed to tell what happened.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus
from urllib.parse import urlsplit

import httpx2
from regie_chassis.clock import Clock

from regie_networks.addresses import origin_of
from regie_networks.bounds import is_total
from regie_networks.errors import FailureKind, OutcomeUnknown, Refused, Unacceptable
from regie_networks.http import Response, call, retry_after

RATE_WINDOW = timedelta(minutes=5)
"""Waited after a 429 that does not say how long: the window of Mastodon and GoToSocial."""
_NO_PROOF = (HTTPStatus.SEE_OTHER, HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.CONFLICT)
"""Answers below 500 that may follow an effect: a look elsewhere, a proxy's time limit, a first call under the key."""
READ_TIMEOUT = 15.0
"""Seconds."""


@dataclass(frozen=True, slots=True)
class MastodonClient:
    """Where calls go and with what token. `url` is scheme and host, without a path."""

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
        content: bytes | None = None,
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
        if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
            return
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in _NO_PROOF:
            raise OutcomeUnknown(f"HTTP {status}: {response.error_text()}")
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            wait = retry_after(response.headers, self.clock.now())
            raise Refused(
                FailureKind.RATE_LIMITED, response.error_text(), retry_after=RATE_WINDOW if wait is None else wait
            )
        if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            # Tokens have no refresh. 403 is a missing scope or a suspended account: both need a person to reconnect.
            raise Refused(FailureKind.AUTH_EXPIRED, response.error_text())
        if status in (HTTPStatus.NOT_FOUND, HTTPStatus.GONE):
            if absent is None:
                return
            raise Refused(absent, response.error_text())
        if status < HTTPStatus.BAD_REQUEST:
            raise Refused(FailureKind.UNSUPPORTED, "The server has moved: connect the channel at its present address")
        raise Refused(rejected, response.error_text())


def _of_page(status: int, rejected: FailureKind) -> FailureKind:
    """What a refusal means that is a page and no answer of the API, once the token is known to be good."""
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
