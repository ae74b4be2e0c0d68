"""The environment variables of each process of an installation on one machine."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from regie_chassis.process.settings import WrongSetting

from regie_local.data_directory import DataDirectory, Secrets
from regie_local.private_files import make_private_folder
from regie_local.processes import check_bindable, free_port
from regie_local.services import all_specs, fill, service_specs

GATEWAY = "gateway"
SANDBOX = "sandbox"
PORT_SETTINGS = {GATEWAY: "REGIE_PORT", SANDBOX: "REGIE_SANDBOX_PORT"}
MAX_PORT = 65535


@dataclass(frozen=True, slots=True)
class Ports:
    """The ports that people know; 0 takes a free one."""

    gateway: int = 0
    sandbox: int = 0

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Ports:
        """Returns REGIE_PORT and REGIE_SANDBOX_PORT, or the ports in services.toml. Raises WrongSetting."""
        listed = {one.name: one.http_port for one in all_specs()}
        ports = cls(
            **{
                service: _read_port(setting, environment.get(setting, str(listed[service])))
                for service, setting in PORT_SETTINGS.items()
            }
        )
        if ports.gateway and ports.gateway == ports.sandbox:
            raise WrongSetting("REGIE_SANDBOX_PORT: this is the port of the REST API, too; give each a port of its own")
        return ports

    def settle(self, *, check: Callable[[int], None] = check_bindable) -> Ports:
        """Returns free ports. Raises WrongSetting for a fixed port that is in use, or that this user may not listen
        on; `check` raises the OSError of listening there."""
        for setting, port in ((PORT_SETTINGS[GATEWAY], self.gateway), (PORT_SETTINGS[SANDBOX], self.sandbox)):
            if port:
                _check_port(setting, port, check)
        return Ports(self.gateway or free_port(), self.sandbox or free_port())


@dataclass(frozen=True, slots=True)
class Wiring:
    """Everything that is known once PostgreSQL, NATS and the trace store have their ports."""

    folder: DataDirectory
    secrets: Secrets
    ports: Ports
    rpc_ports: dict[str, list[int]]
    database_urls: dict[str, str]
    nats_url: str
    otlp: str

    def of_service(self, service: str, replica: int) -> dict[str, str]:
        """Returns the environment of one replica of a service."""
        spec, prefix = service_specs()[service], service.upper()
        variables = {
            f"{prefix}_DATABASE_URL": self.database_urls[service],
            "NATS_URL": self.nats_url,
            "NATS_PASSWORD": self.secrets.nats_passwords[service],
            "REGIE_IDENTITY_PUBLIC_KEY": json.dumps(self.secrets.identity_public_key),
            "REGIE_OTLP_ENDPOINT": self.otlp,
            "GRPC_VERBOSITY": "NONE",  # its own lines are no JSON
        }
        if spec.rpc_port:
            variables[f"{prefix}_RPC_PORT"] = str(self.rpc_ports[service][replica])
        if spec.http_port:
            variables[f"{prefix}_HTTP_PORT"] = str(self.ports.gateway)
        for volume in spec.volumes:
            make_private_folder(self.folder.path / volume)
        return variables | fill(spec.environment, self._placeholders(), secret_of=self.secrets.settings.__getitem__)

    def _placeholders(self) -> dict[str, str]:
        targets = {name: _target(self.rpc_ports.get(name, [])) for name, one in service_specs().items() if one.rpc_port}
        return {
            "<identity-key>": json.dumps(self.secrets.identity_private_key),
            "<targets>": json.dumps(targets),
            "<sandbox>": f"127.0.0.1:{self.ports.sandbox}",
            "<media-url>": f"{self.folder.path.as_uri()}/media",
        }

    def of_sandbox(self) -> dict[str, str]:
        """Returns the environment of the sandbox network."""
        return {"SANDBOX_PORT": str(self.ports.sandbox), "SANDBOX_DATA": str(self.folder.path / "sandbox")}


def _read_port(setting: str, value: str) -> int:
    if value.isascii() and value.isdigit() and int(value[:10]) <= MAX_PORT:
        return int(value[:10])
    raise WrongSetting(f"{setting}: give a port from 1 to {MAX_PORT}, or 0 for a free one")


def _check_port(setting: str, port: int, check: Callable[[int], None]) -> None:
    try:
        check(port)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            another = port + 1 if port < MAX_PORT else port - 1
            raise WrongSetting(
                f"{setting}: port {port} is taken by another program; give another, as in {setting}={another}"
            ) from error
        raise WrongSetting(
            f"{setting}: this user may not listen on the port ({error.strerror}); give one above 1023"
        ) from error


def _target(ports: list[int]) -> str:
    """Several replicas are one gRPC target: calls go to the first that answers."""
    if len(ports) == 1:
        return f"127.0.0.1:{ports[0]}"
    return "ipv4:" + ",".join(f"127.0.0.1:{port}" for port in ports) if ports else "127.0.0.1:1"
