"""The publisher of `make late`, with one more network that cannot be read back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import httpx2
from regie_chassis.boundary.ids import new_id
from regie_chassis.boundary.telemetry import Telemetry
from regie_chassis.process.runtime import run
from regie_networks.absence import Absence, Repeat
from regie_networks.bluesky.connector import BlueskyConnector
from regie_networks.contract import Connection, SaveHandle
from regie_networks.draft import Account, Draft, Processing, Remote
from regie_networks.egress import guarded_client
from regie_networks.errors import FailureKind, Inconclusive, OutcomeUnknown, Refused
from regie_networks.http import call
from regie_networks.lookup import Lookup
from regie_networks.mastodon.connector import MastodonConnector
from regie_networks.observation import Observation
from regie_networks.sandbox.connector import SandboxConnector
from regie_publisher.app import build
from regie_publisher.settings import PublisherSettings

LIMITED = 429


class OpaqueConnector:
    """Posts, and can read nothing back."""

    network = "opaque"

    def __init__(self, client: httpx2.AsyncClient, *, quiet: timedelta) -> None:
        self.quiet = quiet
        self._client = client

    def new_key(self, now: datetime) -> str:  # noqa: ARG002
        return new_id().hex

    def review(self, draft: Draft) -> None: ...

    async def connect(self, server_url: str, credentials: Mapping[str, str]) -> Connection:
        return Connection(server_url, "late", "late", "Late", dict(credentials))

    def needs_preparation(self, draft: Draft) -> bool:  # noqa: ARG002
        return False

    async def prepare(self, draft: Draft, save_handle: SaveHandle) -> None: ...

    async def publish(self, draft: Draft, index: int) -> Remote | Processing:
        segment = draft.segments[index]
        answer = await call(
            self._client,
            "POST",
            f"{draft.account.server_url}/posts",
            headers={"X-Oracle": segment.key},
            json={"text": segment.text},
        )
        if answer.status == LIMITED:
            raise Refused(FailureKind.RATE_LIMITED, answer.error_text(), retry_after=timedelta(seconds=3))
        body = answer.json()
        if answer.status != httpx2.codes.OK or not isinstance(body, dict):
            raise OutcomeUnknown(f"HTTP {answer.status}")
        return Remote(str(body["id"]), f"{draft.account.server_url}/posts/{body['id']}")

    async def check(self, draft: Draft, index: int, handle: str) -> Remote | Processing:
        raise NotImplementedError

    async def absence(self, account: Account) -> Absence:  # noqa: ARG002
        return Absence(Repeat.BY_PERSON, quiet=self.quiet)

    async def find(self, draft: Draft, index: int, look: Lookup) -> Remote | None:  # noqa: ARG002
        raise Inconclusive("nothing can be read")

    async def named(self, draft: Draft, index: int, url: str, look: Lookup) -> Remote:  # noqa: ARG002
        raise Inconclusive("nothing can be read")

    async def observe(self, account: Account, remotes: Sequence[Remote]) -> list[Observation]:  # noqa: ARG002
        return []


def main() -> None:
    """Serves until SIGTERM."""
    settings = PublisherSettings()  # type: ignore[call-arg]  # the environment gives the arguments
    telemetry = Telemetry(
        "publisher",
        endpoint=settings.otlp_endpoint,
        sample_ratio=settings.trace_sample_ratio,
        log_level=settings.log_level,
    )
    client = guarded_client(allowed_hosts=settings.allowed_hosts)
    quiet = timedelta(seconds=settings.quiet_seconds)
    kinds = (BlueskyConnector, MastodonConnector, SandboxConnector, OpaqueConnector)
    try:
        run(lambda: build(settings, connectors={kind.network: kind(client, quiet=quiet) for kind in kinds}).app)
    finally:
        telemetry.stop()


if __name__ == "__main__":
    main()
