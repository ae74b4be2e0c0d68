"""A network as the suite sees it: its descriptor, a fake server, and its own reading of its calls."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import httpx2

from regie_networks.conformance.transport import CallPattern, FaultyTransport
from regie_networks.contract import NetworkConnector
from regie_networks.draft import Account, Draft, Picture, Segment, Video
from regie_networks.errors import FailureKind
from regie_networks.network import Network
from regie_networks.testing.fakes import BEGINNING, FakeCredentials

FRAMES = b"\x00\x00\x00\x18ftypmp42" + b"frames" * 10
PIXELS = b"\x89PNG\r\n\x1a\n--pixels--"
UNKNOWN = None
"""The failure of a status that may follow an effect."""


@dataclass(slots=True)
class Harness:
    """A network under test.

    `texts` returns the visible texts, the oldest first. `failures` are the failure kinds by status of a response to a
    publish, `error_body` the body of such a response. `secrets` open the account; `absent_id` is the id of no post,
    `address` a post's address as people paste it. `approve` consents at the authorization address as a person does,
    and returns the address of the redirect. `members` are names of the network's JSON, for invented responses.
    """

    network: Network
    server: FaultyTransport
    server_url: str
    remote_id: str
    handle: str
    credentials: Mapping[str, str]
    secrets: Mapping[str, str]
    publish_call: CallPattern
    find_call: CallPattern
    texts: Callable[[], Awaitable[list[str]]]
    failures: Mapping[int, FailureKind | None]
    error_body: bytes
    members: tuple[str, ...]
    absent_id: str
    address: str
    approve: Callable[[str], Awaitable[str]] | None
    _new_key: Callable[[datetime], str] = field(init=False)

    def __post_init__(self) -> None:
        self._new_key = self.connector().new_key

    def connector(self, transport: httpx2.AsyncBaseTransport | None = None) -> NetworkConnector:
        """Returns a connector as a new process has it."""
        client = httpx2.AsyncClient(transport=transport or self.server)
        return self.network.connector(client, quiet=timedelta(seconds=120))

    def account(self) -> Account:
        return Account(self.server_url, self.remote_id, self.handle, FakeCredentials(self.secrets))

    def draft(self, *texts: str, pictures: int = 0) -> Draft:
        """Returns a draft with the pictures in its first part."""
        segments = [Segment(self._new_key(BEGINNING), text) for text in texts or ("Doors open at eight.",)]
        attached = tuple(picture(f"media_{number}") for number in range(pictures))
        segments[0] = replace(segments[0], pictures=attached)
        return Draft(self.account(), segments, visibility="", language="en", compose_time=BEGINNING)


def picture(media_id: str = "media_0", **members: object) -> Picture:
    """Returns a small picture with other members where they are given."""

    async def read() -> bytes:
        return PIXELS

    made = Picture(media_id, f"{media_id}: a door", "image/png", len(PIXELS), 4, 3, read)
    return replace(made, **members)  # type: ignore[arg-type]


def video(media_id: str = "media_0", **members: object) -> Video:
    """Returns a small video with other members where they are given."""

    async def stream() -> AsyncIterator[bytes]:
        for start in range(0, len(FRAMES), 16):
            yield FRAMES[start : start + 16]

    second = timedelta(seconds=1)
    made = Video(media_id, f"{media_id}: a door opens", "video/mp4", len(FRAMES), 4, 3, second, stream)
    return replace(made, **members)  # type: ignore[arg-type]
