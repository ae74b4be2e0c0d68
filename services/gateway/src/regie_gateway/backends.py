"""The services behind: one channel and one stub each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import grpc
from regie.audience.v1.audience_service_pb2_grpc import AudienceServiceStub
from regie.metrics.v1.metrics_service_pb2_grpc import MetricsServiceStub
from regie.publisher.v1.publisher_service_pb2_grpc import PublisherServiceStub
from regie.scheduler.v1.scheduler_service_pb2_grpc import SchedulerServiceStub
from regie_chassis.rpc import open_channel
from regie_chassis.settings import WrongSetting


@dataclass(frozen=True, slots=True)
class Backends:
    """Stubs that connect at the first call."""

    scheduler: SchedulerServiceStub
    publisher: PublisherServiceStub
    audience: AudienceServiceStub
    metrics: MetricsServiceStub
    channels: tuple[grpc.aio.Channel, ...]

    async def close(self) -> None:
        """Closes the channels."""
        for channel in self.channels:
            await channel.close()


def open_backends(targets: Mapping[str, str]) -> Backends:
    """Returns the stubs for services at host:port each. Needs a running event loop. Raises WrongSetting."""
    channels = {service: open_channel(target) for service, target in targets.items()}
    try:
        return Backends(
            SchedulerServiceStub(channels["scheduler"]),
            PublisherServiceStub(channels["publisher"]),
            AudienceServiceStub(channels["audience"]),
            MetricsServiceStub(channels["metrics"]),
            tuple(channels.values()),
        )
    except KeyError as error:
        raise WrongSetting(f"GATEWAY_TARGETS: give the host:port of {error}, too") from error
