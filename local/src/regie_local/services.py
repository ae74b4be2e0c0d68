"""The list of services, as services.toml has it."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

FILE = Path(__file__).resolve().parents[3] / "services.toml"
SECRET = "<secret>"  # noqa: S105  # a placeholder
PLACEHOLDER = re.compile(r"<[a-z-]+>")


@dataclass(frozen=True, slots=True)
class ServiceSpec:
    """One service: the folder `services/<name>`, the package `regie_<name>`, the database and NATS user `<name>`.

    Values of `environment` may hold placeholders: `<secret>` (32 random bytes in base64url, made up once and kept),
    `<identity-key>` (the private key that signs callers), `<targets>` (JSON: host:port of each service with RPCs),
    `<sandbox>` (host:port of the stand-in network) and `<media-url>` (the media store that services share).
    """

    name: str
    rpc_port: int = 0
    """Port of its gRPC server in a deployment; 0 for a service without RPCs."""
    http_port: int = 0
    """Port of its HTTP server in a deployment; 0 for a service without one."""
    reads: tuple[str, ...] = ()
    """The services that it reads events of; a test compares them with its subscriptions."""
    volumes: tuple[str, ...] = ()
    """Folders below the installation's data that this service uses; services that name the same one share it."""
    stand_in: bool = False
    """True for a program that plays somebody outside: without database, NATS and the chassis."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Settings of this service alone."""
    compose: Mapping[str, str] = field(default_factory=dict)
    """Settings that differ under docker-compose."""

    @property
    def package(self) -> str:
        return f"regie_{self.name}"


@cache
def all_specs() -> tuple[ServiceSpec, ...]:
    """Returns every entry of the list, in its order."""
    tables = tomllib.loads(FILE.read_text())
    return tuple(
        ServiceSpec(name, **{key: _frozen(value) for key, value in table.items()}) for name, table in tables.items()
    )


def service_specs() -> dict[str, ServiceSpec]:
    """Returns the services by name, without stand-ins."""
    return {one.name: one for one in all_specs() if not one.stand_in}


def secret_settings() -> list[str]:
    """Returns the names of the settings with a generated value that is kept."""
    return [name for one in all_specs() for name, value in one.environment.items() if value == SECRET]


def fill(
    environment: Mapping[str, str], values: Mapping[str, str], *, secret_of: Callable[[str], str]
) -> dict[str, str]:
    """Returns settings with their placeholders replaced. Raises KeyError for a placeholder without a value."""
    return {
        name: secret_of(name) if template == SECRET else PLACEHOLDER.sub(lambda found: values[found[0]], template)
        for name, template in environment.items()
    }


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
