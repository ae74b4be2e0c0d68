"""The four fakes on one gRPC server."""

from __future__ import annotations

import grpc
from joserfc.jwk import OKPKey
from regie.audience.v1.audience_service_pb2_grpc import add_AudienceServiceServicer_to_server
from regie.metrics.v1.metrics_service_pb2_grpc import add_MetricsServiceServicer_to_server
from regie.publisher.v1.networks_service_pb2_grpc import add_NetworksServiceServicer_to_server
from regie.publisher.v1.publisher_service_pb2_grpc import add_PublisherServiceServicer_to_server
from regie.scheduler.v1.scheduler_service_pb2_grpc import add_SchedulerServiceServicer_to_server
from regie_chassis.clock import Clock
from regie_chassis.identity import Verifier
from regie_chassis.rpc import RpcServer

from regie_gateway.testing.audience import FakeAudience
from regie_gateway.testing.metrics import FakeMetrics
from regie_gateway.testing.networks import FakeNetworks
from regie_gateway.testing.publisher import FakePublisher
from regie_gateway.testing.scheduler import FakeScheduler


class Behind:
    """Starts and stops the fakes; verifies identities as the real ones do."""

    def __init__(self, key: OKPKey, clock: Clock) -> None:
        self.scheduler = FakeScheduler()
        self.publisher = FakePublisher()
        self.networks = FakeNetworks()
        self.audience = FakeAudience()
        self.metrics = FakeMetrics()
        self.server = RpcServer(
            host="127.0.0.1", port=0, verifier=Verifier(key), clock=clock, register=[self._register]
        )

    def _register(self, server: grpc.aio.Server) -> None:
        add_SchedulerServiceServicer_to_server(self.scheduler, server)
        add_PublisherServiceServicer_to_server(self.publisher, server)
        add_NetworksServiceServicer_to_server(self.networks, server)
        add_AudienceServiceServicer_to_server(self.audience, server)
        add_MetricsServiceServicer_to_server(self.metrics, server)
