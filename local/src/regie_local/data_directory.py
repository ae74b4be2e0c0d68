"""The folder of one installation on one machine: its lock, secrets, addresses and first API key."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import secrets
import time
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError
from regie_chassis.boundary.identity import new_key
from regie_chassis.events.nats_access import STREAMS_USER
from regie_chassis.process.settings import WrongSetting

from regie_local.postgres import has_data
from regie_local.private_files import make_private_folder, read_private, write_private
from regie_local.services import secret_settings

OF_TESTS = "networks"  # real servers of networks that tests install in the default folder
LOCK_WAIT = 15.0  # seconds; what a killed start leaves behind needs a moment to end
LOOK_EVERY = 0.2  # seconds
BACKUP = "put it back from a backup, or give another folder"
OF_ONE_RUN = "end what runs in this folder, and remove the file; the next start writes it"
UNTYPABLE = {"Cc", "Cs"}  # control characters, and bytes that are no text
Form = TypeVar("Form")


class AlreadyRunning(Exception):
    """Another process runs this folder."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the parts of a running installation listen, as written to `addresses.json`."""

    pid: int
    gateway: str
    sandbox: str
    traces: str
    otlp: str
    nats: str
    postgres_port: int
    rpc: dict[str, list[str]]
    """host:port of each replica, by service."""


@dataclass(frozen=True, slots=True)
class Secrets:
    """The secrets that the first start creates and later starts read."""

    passwords: dict[str, str]
    """Of each service's database role."""
    nats_passwords: dict[str, str]
    """Of each user of NATS: the services, and the maker of their streams."""
    identity_private_key: dict[str, Any]
    identity_public_key: dict[str, Any]
    settings: dict[str, str]
    """Of each setting that services.toml calls a secret."""


@dataclass(frozen=True, slots=True)
class _Stored:
    """The content of `secrets.json`; a start of an earlier version may have written less."""

    passwords: dict[str, str] = field(default_factory=dict)
    nats_passwords: dict[str, str] = field(default_factory=dict)
    identity_private_key: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)

    def lacking(self) -> list[str]:
        """Returns the names of the secrets that are not here and without which the data cannot be used."""
        key = [] if self.identity_private_key else ["identity_private_key"]
        return key + [name for name in secret_settings() if not self.settings.get(name)]


_STORED, _ADDRESSES = TypeAdapter(_Stored), TypeAdapter(Addresses)
_ENVIRONMENTS = TypeAdapter(dict[str, dict[str, str]])


class DataDirectory:
    """One installation's files below `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self.logs = self.path / "logs"
        self.postgres = self.path / "postgres"
        self._addresses = self.path / "addresses.json"
        self._api_key = self.path / "api-key"
        self._environments = self.path / "environments.json"
        self._lock = self.path / "run.lock"

    def lock(self) -> int:
        """Takes the folder for this process and returns the file descriptor that holds it.

        Waits while a start that was killed is still being cleaned up. Raises AlreadyRunning, and WrongSetting for a
        folder that cannot be used.
        """
        held = self._open_lock()
        deadline = time.monotonic() + LOCK_WAIT
        while not _try_lock(held):
            owner = os.read(held, 20).decode().strip()
            os.lseek(held, 0, os.SEEK_SET)
            if _alive(owner) or time.monotonic() > deadline:
                os.close(held)
                raise AlreadyRunning(f"{self.path} is in use by process {owner or '?'}; stop that one first")
            time.sleep(LOOK_EVERY)
        os.ftruncate(held, 0)
        os.write(held, f"{os.getpid()}\n".encode())
        return held

    def check(self) -> None:
        """Makes the folder where there is none. Raises WrongSetting for a folder that cannot be used."""
        os.close(self._open_lock())

    def _open_lock(self) -> int:
        try:
            if self._holds_other_files():
                raise WrongSetting("REGIE_FOLDER: this folder holds other files; give a new or an empty one")
            make_private_folder(self.path)
            return os.open(self._lock, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise WrongSetting(
                f"REGIE_FOLDER: no data can be kept there ({error.strerror});"
                " give a folder of your own, or one to be made where you may write"
            ) from error

    def _holds_other_files(self) -> bool:
        """True for a folder that no start has made: it must not be closed to its other users."""
        if self._lock.exists() or not self.path.is_dir():
            return False
        return any(entry.name != OF_TESTS for entry in self.path.iterdir())

    def secrets(self, services: Sequence[str]) -> Secrets:
        """Returns the secrets of an earlier start, and creates missing ones.

        Raises WrongSetting where data lie here whose keys are missing: new keys would open none of them.
        """
        path = self.path / "secrets.json"
        stored = self._read_secrets(path)
        key = stored.identity_private_key or new_key().as_dict(private=True)
        made = Secrets(
            passwords=_passwords(services) | stored.passwords,
            nats_passwords=_passwords([*services, STREAMS_USER]) | stored.nats_passwords,
            identity_private_key=key,
            identity_public_key={name: value for name, value in key.items() if name != "d"},
            settings={name: new_secret() for name in secret_settings()} | stored.settings,
        )
        write_private(path, json.dumps(asdict(made), indent=2))
        return made

    def _read_secrets(self, path: Path) -> _Stored:
        content = read_private(path)
        if content is None and has_data(self.postgres):
            raise WrongSetting(f"REGIE_FOLDER: {path} is missing, and the data need its keys; {BACKUP}")
        stored = _Stored() if content is None else _parse(_STORED, path, content, remedy=BACKUP)
        if stored.lacking() and has_data(self.postgres):
            raise WrongSetting(
                f"REGIE_FOLDER: {path} lacks {', '.join(stored.lacking())}, which the data need; {BACKUP}"
            )
        return stored

    def write_addresses(self, addresses: Addresses) -> None:
        """Writes the addresses of the running processes for other programs on this machine."""
        write_private(self._addresses, json.dumps(asdict(addresses), indent=2))

    def read_addresses(self) -> Addresses | None:
        """Returns where everything listens; None when nothing runs."""
        content = read_private(self._addresses)
        if content is None:
            return None
        found = _parse(_ADDRESSES, self._addresses, content, remedy=OF_ONE_RUN)
        return found if _alive(str(found.pid)) else None

    def forget_addresses(self) -> None:
        """Removes the addresses and environments, since nothing runs any more."""
        for file in (self._addresses, self._environments):
            if file.is_file():
                file.unlink(missing_ok=True)

    def write_environments(self, environments: Mapping[str, Mapping[str, str]]) -> None:
        """Writes the environment of each running service, for commands beside it."""
        write_private(self._environments, json.dumps(environments, indent=2))

    def read_environments(self) -> dict[str, dict[str, str]]:
        """Returns the environment of each running service; empty when nothing runs."""
        if self.read_addresses() is None:
            return {}
        content = read_private(self._environments)
        return {} if content is None else _parse(_ENVIRONMENTS, self._environments, content, remedy=OF_ONE_RUN)

    @property
    def api_key_file(self) -> Path:
        """Where the first API key is kept."""
        return self._api_key

    def read_api_key(self) -> str:
        """Returns the first API key; empty before there is one."""
        key = read_private(self._api_key) or b""
        if not key.isascii():
            raise WrongSetting(f"REGIE_FOLDER: {self._api_key} is damaged; remove it, and the next start makes a key")
        return key.decode().strip()

    def write_api_key(self, key: str) -> None:
        """Keeps the first API key, readable by its owner only."""
        write_private(self._api_key, key + "\n")


def folder_from_environment(environment: Mapping[str, str] = os.environ) -> Path:
    """Returns REGIE_FOLDER, or `.regie` below the working directory. Raises WrongSetting for an unusable name."""
    folder = environment.get("REGIE_FOLDER", ".regie")
    if not folder:
        raise WrongSetting("REGIE_FOLDER: this is empty; give a folder, or leave it out for .regie")
    if any(unicodedata.category(character) in UNTYPABLE for character in str(Path(folder).absolute())):
        raise WrongSetting("REGIE_FOLDER: its path has a control character or bytes that are no UTF-8; give another")
    return Path(folder)


def _parse(form: TypeAdapter[Form], path: Path, content: bytes, *, remedy: str) -> Form:
    try:
        return form.validate_json(content)
    except ValidationError as error:
        raise WrongSetting(f"REGIE_FOLDER: {path} is damaged; {remedy}") from error


def new_secret() -> str:
    """Returns 32 random bytes in base64url."""
    return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()


def _passwords(names: Sequence[str]) -> dict[str, str]:
    return {name: secrets.token_urlsafe(18) for name in names}


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _alive(pid: str) -> bool:
    if not pid.isdigit():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
