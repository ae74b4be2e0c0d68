"""The four fakes on one gRPC server."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import grpc
from joserfc.jwk import OKPKey
from regie_chassis.boundary.identity import Verifier
from regie_chassis.boundary.rpc import RpcServer
from regie_chassis.process.clock import Clock

from regie_gateway.testing.audience import FakeAudience
from regie_gateway.testing.metrics import FakeMetrics
from regie_gateway.testing.networks import FakeNetworks
from regie_gateway.testing.publisher import FakePublisher
from regie_gateway.testing.scheduler import FakeScheduler


class FakeBackends:
    """Starts and stops the fakes; verifies identities as the real ones do."""

    def __init__(self, key: OKPKey, clock: Clock) -> None:
        self.scheduler = FakeScheduler()
        self.publisher = FakePublisher()
        self.networks = FakeNetworks()
        self.audience = FakeAudience()
        self.metrics = FakeMetrics()
        self.server = RpcServer(
            host="127.0.0.1",
            port=0,
            prefix="BACKENDS_RPC",
            verifier=Verifier(key),
            clock=clock,
            register=[self._register],
        )

    def _register(self, server: grpc.aio.Server) -> None:
        _add_servicers(server, (self.scheduler, self.publisher, self.networks, self.audience, self.metrics))


def _add_servicers(server: grpc.aio.Server, fakes: Sequence[object]) -> None:
    """Answers every proto service of the services behind with the fake that has its methods."""
    for service in ("scheduler", "publisher", "audience", "metrics"):
        package = import_module(f"regie.{service}.v1")
        for path in sorted(Path(package.__path__[0]).glob("*_service_pb2_grpc.py")):
            module = vars(import_module(f"{package.__name__}.{path.stem}"))
            for name, add in module.items():
                if name.startswith("add_"):
                    servicer = module[name.removeprefix("add_").removesuffix("_to_server")]
                    add(next(fake for fake in fakes if isinstance(fake, servicer)), server)
