"""The services behind: one channel and one stub each."""

from __future__ import annotations

from dataclasses import dataclass

import grpc
from regie.audience.v1.audience_service_pb2_grpc import AudienceServiceStub
from regie.metrics.v1.metrics_service_pb2_grpc import MetricsServiceStub
from regie.publisher.v1.networks_service_pb2_grpc import NetworksServiceStub
from regie.publisher.v1.publisher_service_pb2_grpc import PublisherServiceStub
from regie.scheduler.v1.scheduler_service_pb2_grpc import SchedulerServiceStub
from regie_chassis.rpc import open_channel


@dataclass(frozen=True, slots=True)
class Backends:
    """Stubs that connect at the first call."""

    scheduler: SchedulerServiceStub
    publisher: PublisherServiceStub
    networks: NetworksServiceStub
    audience: AudienceServiceStub
    metrics: MetricsServiceStub
    channels: tuple[grpc.aio.Channel, ...]

    async def close(self) -> None:
        """Closes the channels."""
        for channel in self.channels:
            await channel.close()


def open_backends(*, scheduler: str, publisher: str, audience: str, metrics: str) -> Backends:
    """Returns the stubs for four targets, host:port each. Needs a running event loop."""
    channels = tuple(open_channel(target) for target in (scheduler, publisher, audience, metrics))
    return Backends(
        SchedulerServiceStub(channels[0]),
        PublisherServiceStub(channels[1]),
        NetworksServiceStub(channels[1]),
        AudienceServiceStub(channels[2]),
        MetricsServiceStub(channels[3]),
        channels,
    )
