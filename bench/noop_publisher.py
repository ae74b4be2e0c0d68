"""The publisher with a network that does nothing but note when it was called: the far end of bench/dispatch.py."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

from regie_chassis.boundary.ids import new_id
from regie_chassis.boundary.telemetry import Telemetry
from regie_chassis.process.runtime import run
from regie_networks.absence import QUIET, Absence
from regie_networks.contract import Connection, SaveHandle
from regie_networks.draft import Account, Draft, Processing, Remote
from regie_networks.lookup import Lookup
from regie_networks.observation import Observation
from regie_publisher.app import build
from regie_publisher.settings import PublisherSettings


class NoopConnector:
    """Takes everything at once and keeps the times of the calls."""

    network = "sandbox"
    quiet = QUIET

    def __init__(self) -> None:
        self.call_times: list[float] = []

    def new_key(self, now: datetime) -> str:  # noqa: ARG002  # a network may want the time in its keys
        return new_id().hex

    def review(self, draft: Draft) -> None: ...

    async def connect(self, server_url: str, credentials: Mapping[str, str]) -> Connection:
        handle = credentials["access_token"]
        return Connection(server_url, handle, handle, handle, dict(credentials))

    def needs_preparation(self, draft: Draft) -> bool:  # noqa: ARG002  # nothing ever does
        return False

    async def prepare(self, draft: Draft, save_handle: SaveHandle) -> None: ...

    async def publish(self, draft: Draft, index: int) -> Remote | Processing:
        self.call_times.append(time.time())
        return Remote(draft.segments[index].key, "https://example.org/" + draft.segments[index].key)

    async def check(self, draft: Draft, index: int, handle: str) -> Remote | Processing:
        raise NotImplementedError

    async def absence(self, account: Account) -> Absence:
        raise NotImplementedError

    async def find(self, draft: Draft, index: int, look: Lookup) -> Remote | None:
        raise NotImplementedError

    async def named(self, draft: Draft, index: int, url: str, look: Lookup) -> Remote:
        raise NotImplementedError

    async def observe(self, account: Account, remotes: Sequence[Remote]) -> list[Observation]:  # noqa: ARG002
        return []


def main() -> None:
    """Serves until SIGTERM, then writes the times of all calls to the file that BENCH_CALLS names."""
    connector = NoopConnector()
    settings = PublisherSettings()  # type: ignore[call-arg]  # the environment gives the arguments
    telemetry = Telemetry(
        "publisher",
        endpoint=settings.otlp_endpoint,
        sample_ratio=settings.trace_sample_ratio,
        log_level=settings.log_level,
    )
    try:
        run(lambda: build(settings, connectors={"sandbox": connector}).app)
    finally:
        telemetry.stop()
        Path(os.environ["BENCH_CALLS"]).write_text(json.dumps(connector.call_times))


if __name__ == "__main__":
    main()
