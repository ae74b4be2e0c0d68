"""A whole installation on one machine: servers, services and the sandbox, each a process of its own.

`make run` and the tests that kill processes stand on it. It knows the services by services.toml only.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

from regie_chassis.process.settings import WrongSetting

from regie_local.data_directory import Addresses, DataDirectory
from regie_local.environment import GATEWAY, PORT_SETTINGS, SANDBOX, Ports, Wiring
from regie_local.nats import EmbeddedNats
from regie_local.postgres import EmbeddedPostgres
from regie_local.private_files import unusable
from regie_local.processes import ChildProcess, ProcessFailed, answers, free_port
from regie_local.readiness import http_answers, rpc_serves
from regie_local.services import service_specs
from regie_local.watchdog import Watchdog

READY_TIMEOUT = 60.0  # seconds
COMMAND_TIMEOUT = 120.0  # seconds
WRONG_SETTING = 2  # the exit status of a service whose line names the setting
WORKSPACE = "demo"
TRACES = "traces"


class StartAborted(Exception):
    """Somebody asked to stop before everything was ready."""


class LocalCluster:
    """Starts, breaks and stops an installation with its data in `folder`; a later start finds them again.

    `services` are the running services (all of services.toml when none is named), `replicas` their numbers (one by
    default; the gateway always has one), `env` adds settings by service, and `programs` serves one by
    other arguments to Python than `-m regie_<service> serve`. `report` gets a line about each step; `stopping` ends a
    start early. All methods block: inside an event loop call them through `asyncio.to_thread`.
    """

    def __init__(
        self,
        folder: Path,
        *,
        services: Sequence[str] = (),
        replicas: Mapping[str, int] | None = None,
        env: Mapping[str, Mapping[str, str]] | None = None,
        programs: Mapping[str, Sequence[str]] | None = None,
        ports: Ports | None = None,
        fsync: bool = True,
        report: Callable[[str], None] = lambda _: None,
        stopping: threading.Event | None = None,
    ) -> None:
        self.folder = DataDirectory(folder)
        self.services = tuple(services or service_specs())
        self.processes: dict[str, ChildProcess] = {}
        """Services, sandbox and trace store by name; the second scheduler is `scheduler-2`."""
        self._replicas = {name: (replicas or {}).get(name, 1) for name in self.services}
        self._env = {name: dict(settings) for name, settings in (env or {}).items()}
        self._programs = dict(programs or {})
        self._ports = ports or Ports()
        self._fsync = fsync
        self._report = report
        self._stopping = stopping or threading.Event()
        self._lock: int | None = None
        self._server_stops: list[Callable[[], None]] = []
        self._watchdog: Watchdog | None = None

    def __enter__(self) -> LocalCluster:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Starts everything and returns once all of it is ready. Raises WrongSetting, AlreadyRunning, ProcessFailed
        or StartAborted."""
        self._lock = self.folder.lock()
        try:
            self._watchdog = Watchdog(keep=[self._lock])
            self._wire(self._ports.settle())
            self._start_servers()
            self._start_services()
            self.folder.write_environments({name: self._environment_of(name) for name in self.services})
            self.folder.write_addresses(self.addresses)
        except OSError as error:
            self.stop()
            if error.filename and Path(error.filename).is_relative_to(self.folder.path):
                raise unusable(Path(error.filename), error) from error
            raise
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stops everything, the gateway first and the servers last; the data stay."""
        self.folder.forget_addresses()
        children = [child for name, child in self.processes.items() if name != TRACES]
        for child in children:
            child.signal(signal.SIGTERM)
        for child in children:
            child.stop()
        for stop in (*self._server_stops, *(child.stop for child in self.processes.values())):
            stop()
        if self._watchdog:
            self._watchdog.close()
            self._watchdog = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    @property
    def addresses(self) -> Addresses:
        """Where everything listens."""
        return Addresses(
            pid=os.getpid(),
            gateway=f"http://127.0.0.1:{self._wiring.ports.gateway}",
            sandbox=f"http://127.0.0.1:{self._wiring.ports.sandbox}",
            traces=f"http://127.0.0.1:{self._traces_port}",
            otlp=self._wiring.otlp,
            nats=self.nats.url,
            postgres_port=self.postgres.port,
            rpc={name: [f"127.0.0.1:{port}" for port in ports] for name, ports in self._wiring.rpc_ports.items()},
        )

    @property
    def api_key(self) -> str:
        """The key of the workspace that the first start made."""
        return self.folder.read_api_key()

    def new_key(self, workspace: str) -> str:
        """Returns another key for everything in a workspace, which is made where there is none of this name."""
        return self._command(GATEWAY, "bootstrap", "--workspace", workspace, "--show-new-key").split()[-1]

    def database_url(self, service: str) -> str:
        """The SQLAlchemy URL of a service's database, with its password."""
        return self._wiring.database_urls[service]

    def process(self, service: str, replica: int = 0) -> ChildProcess:
        """Returns a replica's process, counted from 0."""
        return self.processes[_name(service, replica)]

    def log_tail(self, service: str, replica: int = 0, lines: int = 20) -> str:
        """Returns the end of a replica's log."""
        return self.process(service, replica).log_tail(lines)

    def kill(self, service: str, replica: int = 0) -> None:
        """Ends a replica as a crash would."""
        self.process(service, replica).kill()

    def restart(self, service: str, replica: int = 0) -> None:
        """Starts a replica again, stopping it first where it still runs, and waits until it is ready."""
        self.process(service, replica).stop()
        self.process(service, replica).start()
        self.wait_ready(service, replica)

    def restart_nats(self, *, kill: bool = False) -> None:
        """Restarts NATS on the same port and streams; `kill` ends it as a crash would."""
        (self.nats.kill if kill else self.nats.stop)()
        self.nats.start()

    def restart_postgres(self, *, kill: bool = False) -> None:
        """Restarts PostgreSQL on the same port and data; `kill` ends it as a crash would."""
        (self.postgres.kill if kill else self.postgres.stop)()
        self.postgres.start()

    def is_ready(self, service: str, replica: int = 0) -> bool:
        """True while a replica reports that it is ready for work."""
        if service == GATEWAY:
            port = self._wiring.ports.gateway
            return answers(port) and http_answers(port, "/readyz")
        port = self._wiring.rpc_ports[service][replica]
        return answers(port) and rpc_serves(port)

    def wait_ready(self, service: str, replica: int = 0, *, timeout: float = READY_TIMEOUT) -> None:
        """Waits until a replica is ready. Raises ProcessFailed with the end of its log."""
        self._wait(_name(service, replica), lambda: self.is_ready(service, replica), timeout)

    def _wait(self, name: str, ready: Callable[[], bool], timeout: float = READY_TIMEOUT) -> None:
        def look() -> bool:
            if self._stopping.is_set():
                raise StartAborted("stopped before everything was ready")
            return ready()

        child = self.processes[name]
        try:
            child.wait_until(look, timeout=timeout)
        except ProcessFailed as error:
            if child.status == WRONG_SETTING:
                raise _wrong_setting(child.log_tail()) from error
            raise

    def _wire(self, ports: Ports) -> None:
        self.postgres = EmbeddedPostgres(self.folder.postgres, fsync=self._fsync, watchdog=self._watchdog)
        secrets = self.folder.secrets(self.services)
        self.nats = EmbeddedNats(self.folder.path / "nats", passwords=secrets.nats_passwords, watchdog=self._watchdog)
        self._server_stops = [self.nats.stop, self.postgres.stop]
        self._otlp_port, self._traces_port = free_port(), free_port()
        specs = service_specs()
        self._wiring = Wiring(
            folder=self.folder,
            secrets=secrets,
            ports=ports,
            rpc_ports={name: _free_ports(self._replicas[name]) for name in self.services if specs[name].rpc_port},
            database_urls={},
            nats_url=self.nats.url,
            otlp=f"127.0.0.1:{self._otlp_port}",
        )

    def _start_servers(self) -> None:
        listen = ["--port", str(self._otlp_port), "--http-port", str(self._traces_port)]
        self._launch(TRACES, ["-m", "regie_local.traces", *listen], {})
        self._launch(SANDBOX, ["-m", "regie_sandbox", "serve"], self._wiring.of_sandbox())
        self.nats.start()
        self.postgres.start()
        self._report("PostgreSQL and NATS run")
        # In a thread, since the caller's may have an event loop already.
        with ThreadPoolExecutor(max_workers=1) as aside:
            aside.submit(asyncio.run, self._create_databases()).result()

    async def _create_databases(self) -> None:
        for name in self.services:
            password = self._wiring.secrets.passwords[name]
            self._wiring.database_urls[name] = await self.postgres.create_database(name, owner=name, password=password)

    def _start_services(self) -> None:
        with ThreadPoolExecutor(max_workers=len(self.services)) as together:
            for done in [together.submit(self._start_service, name) for name in self.services]:
                done.result()
        sandbox = self._wiring.ports.sandbox
        self._wait(SANDBOX, lambda: answers(sandbox) and http_answers(sandbox, "/healthz"))
        self._wait(TRACES, lambda: answers(self._otlp_port) and http_answers(self._traces_port, "/healthz"))

    def _start_service(self, service: str) -> None:
        self._command(service, "migrate")
        if service == GATEWAY and not self.api_key:
            # Before the gateway answers: who waits for /readyz reads the key next.
            self.folder.write_api_key(self.new_key(WORKSPACE))
        replicas = range(self._replicas[service])
        for replica in replicas:
            env = self._environment_of(service, replica)
            self._launch(_name(service, replica), self._programs.get(service, ["-m", f"regie_{service}", "serve"]), env)
        for replica in replicas:
            self.wait_ready(service, replica)
        self._report(f"{service} is ready")

    def _environment_of(self, service: str, replica: int = 0) -> dict[str, str]:
        return self._wiring.of_service(service, replica) | self._env.get(service, {})

    def _launch(self, name: str, arguments: Sequence[str], env: Mapping[str, str]) -> None:
        log = self.folder.path / "logs" / f"{name}.log"
        child = ChildProcess(name, [sys.executable, *arguments], log=log, env=env, watchdog=self._watchdog)
        self.processes[name] = child
        child.start()

    def _command(self, service: str, *arguments: str) -> str:
        """Runs one command of a service to its end and returns its output."""
        env = os.environ | self._environment_of(service)
        command = [sys.executable, "-m", f"regie_{service}", *arguments]
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=COMMAND_TIMEOUT, check=False)
        if done.returncode == WRONG_SETTING:
            raise _wrong_setting(done.stderr)
        if done.returncode:
            raise ProcessFailed(f"{service} {arguments[0]} failed:\n{done.stdout}\n{done.stderr}")
        return done.stdout


def _wrong_setting(output: str) -> WrongSetting:
    """Returns the refusal in a service's output; a port that this installation sets has the name that moves it."""
    lines = [line.removeprefix("setting ") for line in output.splitlines() if line.startswith("setting ")]
    message = "\nsetting ".join(lines) or output.strip()
    for service, setting in PORT_SETTINGS.items():
        for variable in (f"{service.upper()}_PORT", f"{service.upper()}_HTTP_PORT"):
            message = re.sub(rf"\b{variable}\b", setting, message)
    return WrongSetting(message)


def _name(service: str, replica: int) -> str:
    return service if replica == 0 else f"{service}-{replica + 1}"


def _free_ports(count: int) -> list[int]:
    return [free_port() for _ in range(count)]
