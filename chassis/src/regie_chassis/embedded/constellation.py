"""A whole installation on one machine: servers, services and the sandbox, each a process of its own.

`make run` and the tests that kill processes stand on it. It knows the services by name and by their settings only.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

from regie_chassis.embedded.children import Child, ChildFailed, answers, free_port
from regie_chassis.embedded.environment import GATEWAY, SERVICES, Ports, Wiring
from regie_chassis.embedded.folder import Addresses, Folder
from regie_chassis.embedded.nats import EmbeddedNats
from regie_chassis.embedded.postgres import EmbeddedPostgres
from regie_chassis.embedded.readiness import http_answers, rpc_serves
from regie_chassis.embedded.watchdog import Watchdog

READY_TIMEOUT = 60.0  # seconds
MIGRATE_TIMEOUT = 120.0  # seconds
WORKSPACE = "demo"
Told = Callable[[str], None]


class Constellation:
    """Starts, breaks and stops an installation whose data lie in `folder`; a later start finds them again.

    `replicas` says how many of a service run (1 when it is not named; the gateway is always one), `env` adds settings
    by service. All methods block; inside an event loop call them through `asyncio.to_thread`.
    """

    def __init__(
        self,
        folder: Path,
        *,
        services: Sequence[str] = SERVICES,
        replicas: Mapping[str, int] | None = None,
        env: Mapping[str, Mapping[str, str]] | None = None,
        ports: Ports | None = None,
        fsync: bool = True,
        told: Told = lambda _: None,
    ) -> None:
        self.folder = Folder(folder)
        self._services = tuple(services)
        self._replicas = dict(replicas or {})
        self._env = dict(env or {})
        self._ports = ports or Ports()
        self._fsync = fsync
        self._told = told
        self._wiring: Wiring | None = None
        self._watchdog: Watchdog | None = None
        self._lock = -1
        self.processes: dict[str, Child] = {}
        """Services, sandbox and trace store by name; a replica beyond the first is `scheduler-2`, `scheduler-3` …"""

    def __enter__(self) -> Constellation:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # --- life ---

    def start(self) -> None:
        """Starts everything and returns once all of it is ready. Raises AlreadyRunning, PortTaken or ChildFailed."""
        self._lock = self.folder.lock()
        try:
            self._watchdog = Watchdog(keep=[self._lock])
            self._start_all(self._ports.settle())
        except BaseException:
            self.stop()
            raise

    def _start_all(self, ports: Ports) -> None:
        self.postgres = EmbeddedPostgres(self.folder.path / "postgres", fsync=self._fsync, watchdog=self._watchdog)
        self.nats = EmbeddedNats(self.folder.path / "nats", watchdog=self._watchdog)
        self._otlp_port, self._traces_port = free_port(), free_port()
        secrets = self.folder.secrets(self._services)
        rpc_ports = {
            name: [free_port() for _ in range(self._replicas.get(name, 1))]
            for name in self._services
            if name != GATEWAY
        }
        otlp = f"127.0.0.1:{self._otlp_port}"
        self._wiring = Wiring(self.folder, secrets, ports, rpc_ports, {}, self.nats.url, otlp)
        self._launch_traces()
        self._launch("sandbox", self._wiring.of_sandbox())
        self.nats.start()
        self.postgres.start()
        self._told("PostgreSQL and NATS run")
        # In a thread of its own, since the caller's may have an event loop already.
        with ThreadPoolExecutor(max_workers=len(self._services) + 1) as together:
            together.submit(asyncio.run, self._create_databases()).result()
            for done in [together.submit(self._bring_up, name) for name in self._services]:
                done.result()
        self._wait_ready("sandbox", lambda: http_answers(ports.sandbox, "/healthz"))
        self._wait_ready("traces", lambda: answers(self._otlp_port) and http_answers(self._traces_port, "/healthz"))
        self.folder.write_addresses(self.addresses)

    async def _create_databases(self) -> None:
        for name in self._services:
            password = self.wiring.secrets.passwords[name]
            url = await self.postgres.create_database(name, owner=name, password=password)
            self.wiring.database_urls[name] = url

    def _bring_up(self, service: str) -> None:
        self._run_once(service, "migrate")
        if service == GATEWAY and not self.folder.read_api_key():
            said = self._run_once(service, "bootstrap", "--workspace", WORKSPACE)
            self.folder.write_api_key(said.split()[-1])
        for replica in range(self._replicas.get(service, 1)):
            self._launch_service(service, replica)
        for replica in range(self._replicas.get(service, 1)):
            self.wait_service(service, replica)
        self._told(f"{service} is ready")

    def stop(self) -> None:
        """Stops everything, what people reach first and the servers last; the data stay."""
        self.folder.forget_addresses()
        for name in reversed([*self._services, "sandbox"]):
            for child in self._replicas_of(name):
                child.signal(_TERM)
        for name in reversed([*self._services, "sandbox"]):
            for child in self._replicas_of(name):
                child.stop()
        for stop in self._server_stops():
            stop()
        if self._watchdog:
            self._watchdog.close()
            self._watchdog = None
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    # --- what tests break ---

