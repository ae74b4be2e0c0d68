"""The four fakes on one gRPC server."""

from __future__ import annotations

import grpc
from joserfc.jwk import OKPKey
from regie.audience.v1.profiles_service_pb2_grpc import add_ProfilesServiceServicer_to_server
from regie.audience.v1.segments_service_pb2_grpc import add_SegmentsServiceServicer_to_server
from regie.metrics.v1.post_metrics_service_pb2_grpc import add_PostMetricsServiceServicer_to_server
from regie.publisher.v1.channels_service_pb2_grpc import add_ChannelsServiceServicer_to_server
from regie.publisher.v1.deliveries_service_pb2_grpc import add_DeliveriesServiceServicer_to_server
from regie.publisher.v1.media_service_pb2_grpc import add_MediaServiceServicer_to_server
from regie.scheduler.v1.posts_service_pb2_grpc import add_PostsServiceServicer_to_server
from regie_chassis.clock import Clock
from regie_chassis.identity import Verifier
from regie_chassis.rpc import RpcServer

from regie_gateway.testing.audience import FakeAudience
from regie_gateway.testing.metrics import FakeMetrics
from regie_gateway.testing.publisher import FakePublisher
from regie_gateway.testing.scheduler import FakeScheduler


class FakeBackends:
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
        add_PostsServiceServicer_to_server(self.scheduler, server)
        add_ChannelsServiceServicer_to_server(self.publisher, server)
        add_MediaServiceServicer_to_server(self.publisher, server)
        add_DeliveriesServiceServicer_to_server(self.publisher, server)
        add_ProfilesServiceServicer_to_server(self.audience, server)
        add_SegmentsServiceServicer_to_server(self.audience, server)
        add_PostMetricsServiceServicer_to_server(self.metrics, server)
