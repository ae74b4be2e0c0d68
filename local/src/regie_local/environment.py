"""What each process of an installation on one machine is told through its environment."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from regie_local.data_directory import DataDirectory, Secrets
from regie_local.private_files import make_private_folder
from regie_local.processes import answers, free_port

GATEWAY_PORT = 8000
SANDBOX_PORT = 8090
GATEWAY = "gateway"
BEHIND = ("scheduler", "publisher", "audience", "metrics")
SERVICES = (*BEHIND, GATEWAY)


class PortTaken(Exception):
    """A port that people know is in use by another program."""


@dataclass(frozen=True, slots=True)
class Ports:
    """The ports that people know; 0 takes a free one."""

    gateway: int = 0
    sandbox: int = 0

    @classmethod
    def from_environment(cls) -> Ports:
        """Returns REGIE_PORT and REGIE_SANDBOX_PORT, or 8000 and 8090."""
        gateway, sandbox = os.environ.get("REGIE_PORT"), os.environ.get("REGIE_SANDBOX_PORT")
        return cls(int(gateway or GATEWAY_PORT), int(sandbox or SANDBOX_PORT))

    def settle(self) -> Ports:
        """Returns ports that are free now. Raises PortTaken for a fixed one that is not."""
        for setting, port in (("REGIE_PORT", self.gateway), ("REGIE_SANDBOX_PORT", self.sandbox)):
            if port and answers(port):
                raise PortTaken(f"port {port} is taken by another program; choose another, as in {setting}={port + 1}")
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
        prefix = service.upper()
        told = {
            f"{prefix}_DATABASE_URL": self.database_urls[service],
            "NATS_URL": self.nats_url,
            "NATS_PASSWORD": self.secrets.nats_passwords[service],
            "REGIE_IDENTITY_PUBLIC_KEY": json.dumps(self.secrets.identity_public_key),
            "REGIE_OTLP_ENDPOINT": self.otlp,
            "GRPC_VERBOSITY": "NONE",  # its own lines are no JSON
        }
        if service == GATEWAY:
            told |= self._of_gateway()
        else:
            told[f"{prefix}_RPC_PORT"] = str(self.rpc_ports[service][replica])
        if service == "publisher":
            told |= self._of_publisher(self.folder.path / "media")
        return told

    def _of_gateway(self) -> dict[str, str]:
        targets = {f"GATEWAY_{name.upper()}_TARGET": _target(self.rpc_ports.get(name, [])) for name in BEHIND}
        return targets | {
            "GATEWAY_HTTP_PORT": str(self.ports.gateway),
            "GATEWAY_IDENTITY_PRIVATE_KEY": json.dumps(self.secrets.identity_private_key),
        }

    def _of_publisher(self, media: Path) -> dict[str, str]:
        make_private_folder(media)
        return {
            "PUBLISHER_MASTER_KEY": self.secrets.publisher_master_key,
            "PUBLISHER_ALLOWED_HOSTS": f"127.0.0.1:{self.ports.sandbox}",
            "PUBLISHER_SANDBOX_URL": f"http://127.0.0.1:{self.ports.sandbox}",
            "PUBLISHER_MEDIA_URL": media.as_uri(),
        }

    def of_sandbox(self) -> dict[str, str]:
        """Returns the environment of the sandbox network."""
        return {"SANDBOX_PORT": str(self.ports.sandbox), "SANDBOX_DATA": str(self.folder.path / "sandbox")}


def _target(ports: list[int]) -> str:
    """Several replicas are one gRPC target: calls go to the first that answers."""
    if len(ports) == 1:
        return f"127.0.0.1:{ports[0]}"
    return "ipv4:" + ",".join(f"127.0.0.1:{port}" for port in ports) if ports else "127.0.0.1:1"
