"""Drafts, credentials, a clock and answers for tests of the Mastodon connector."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

import httpx2

from regie_networks.draft import Account, Draft, Picture, Segment
from regie_networks.mastodon.testing.server import START, TOKEN, URL


def draft(*texts: str, token: str = TOKEN, pictures: int = 0, **members: Any) -> Draft:
    async def read() -> bytes:
        return b"\x89PNG\r\n\x1a\n--pixels--"

    attached = tuple(
        Picture(f"media_{number}", f"Bild {number}: ein Café", "image/png", 18, 4, 3, read)
        for number in range(pictures)
    )
    segments = [Segment(f"key-{number}", text, attached) for number, text in enumerate(texts)]
    account = Account(URL, "7", "ana@social.example", TokenOnly(token))
    return Draft(account, segments, **{"visibility": "", "language": "de", "compose_time": START, **members})


async def discard(name: str, value: str) -> None:
    """Saves nothing: the connector's own entry in the draft is enough for one process."""


def answering(status: int, *, headers: Mapping[str, str] | None = None, **body: Any) -> Callable[..., httpx2.Response]:
    return lambda _request: httpx2.Response(status, headers=headers, **body)


def dropping(request: httpx2.Request) -> httpx2.Response:
    raise httpx2.ReadTimeout("no answer", request=request)


def unreachable(request: httpx2.Request) -> httpx2.Response:
    raise httpx2.ConnectError("refused", request=request)


def instance(**statuses: int) -> dict[str, object]:
    return {"domain": "example.org", "configuration": {"statuses": statuses}}


class TokenOnly:
    """Credentials that cannot be renewed, as Mastodon's are."""

    def __init__(self, token: str = TOKEN) -> None:
        self.secrets: Mapping[str, str] = {"access_token": token}

    async def refresh(
        self,
        used: Mapping[str, str],
        renew: Callable[[Mapping[str, str]], Awaitable[Mapping[str, str]]],
    ) -> Mapping[str, str]:
        raise AssertionError("Mastodon's tokens have no refresh")


class StepClock:
    """Stands still but for the waits asked of it, which end at once."""

    def __init__(self) -> None:
        self.time = START

    def now(self) -> datetime:
        return self.time

    async def wait(self, event: object, timeout: timedelta) -> bool:
        self.time += timeout
        return False
