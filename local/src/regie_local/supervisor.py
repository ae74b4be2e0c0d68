"""Starts crashed processes again, with growing pauses."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from regie_local.local_cluster import LocalCluster
from regie_local.processes import ChildProcess, ProcessFailed

LOOK_EVERY = 0.5  # seconds
FIRST_PAUSE = 0.5  # seconds
MAX_PAUSE = 30.0  # seconds
FORGIVEN_AFTER = 60.0  # seconds of running


@dataclass(slots=True)
class _Record:
    """A process's recent crashes."""

    pause: float = FIRST_PAUSE
    start_time: float = 0.0
    restart_time: float | None = None


class Supervisor:
    """Watches a cluster's services, sandbox, servers and trace store until it is stopped."""

    def __init__(self, cluster: LocalCluster, *, report: Callable[[str], None]) -> None:
        self._cluster = cluster
        self._report = report
        self._records: dict[str, _Record] = {}

    def run(self, stopping: threading.Event) -> None:
        """Blocks until `stopping` is set."""
        while not stopping.wait(LOOK_EVERY):
            for name, child in self._cluster.processes.items():
                self._look(name, child, child.start)
            for server in (self._cluster.postgres, self._cluster.nats):
                if server.child:
                    self._look(server.child.name, server.child, server.start)

    def _look(self, name: str, child: ChildProcess, start: Callable[[], None]) -> None:
        now = time.monotonic()
        record = self._records.setdefault(name, _Record(start_time=now))
        if child.running:
            if now - record.start_time > FORGIVEN_AFTER:
                record.pause = FIRST_PAUSE
            return
        if record.restart_time is None:
            status = child.reap()
            record.restart_time = now + record.pause
            self._report(f"{name} ended ({status}); starting it again in {record.pause:.1f} s; its log: {child.log}")
            record.pause = min(record.pause * 2, MAX_PAUSE)
        elif now >= record.restart_time:
            record.restart_time, record.start_time = None, now
            try:
                start()
            except ProcessFailed as error:
                self._report(str(error))
