"""The four fakes on one gRPC server."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import grpc
from joserfc.jwk import OKPKey
from regie_chassis.clock import Clock
from regie_chassis.identity import Verifier
from regie_chassis.rpc import RpcServer

from regie_gateway.testing.audience import FakeAudience
from regie_gateway.testing.metrics import FakeMetrics
from regie_gateway.testing.publisher import FakePublisher
from regie_gateway.testing.scheduler import FakeScheduler


class Behind:
    """Starts and stops the fakes; verifies identities as the real ones do."""

    def __init__(self, key: OKPKey, clock: Clock) -> None:
        self.scheduler = FakeScheduler()
        self.publisher = FakePublisher()
        self.audience = FakeAudience()
        self.metrics = FakeMetrics()
        self.server = RpcServer(
            host="127.0.0.1", port=0, verifier=Verifier(key), clock=clock, register=[self._register]
        )

    def _register(self, server: grpc.aio.Server) -> None:
        for service, fake in (
            ("scheduler", self.scheduler),
            ("publisher", self.publisher),
            ("audience", self.audience),
            ("metrics", self.metrics),
        ):
            _add_servicers(service, fake, server)


def _add_servicers(service: str, fake: object, server: grpc.aio.Server) -> None:
    """Answers every proto service of `regie.<service>.v1` with the fake."""
    package = import_module(f"regie.{service}.v1")
    for path in sorted(Path(package.__path__[0]).glob("*_service_pb2_grpc.py")):
        module = import_module(f"{package.__name__}.{path.stem}")
        for name, add in vars(module).items():
            if name.startswith("add_"):
                add(fake, server)
