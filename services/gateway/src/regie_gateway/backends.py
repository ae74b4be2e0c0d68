"""The services behind: one channel each, and one stub for each of their capabilities."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import grpc
from regie.audience.v1.profiles_service_pb2_grpc import ProfilesServiceStub
from regie.audience.v1.segments_service_pb2_grpc import SegmentsServiceStub
from regie.metrics.v1.post_metrics_service_pb2_grpc import PostMetricsServiceStub
from regie.publisher.v1.channels_service_pb2_grpc import ChannelsServiceStub
from regie.publisher.v1.deliveries_service_pb2_grpc import DeliveriesServiceStub
from regie.publisher.v1.media_service_pb2_grpc import MediaServiceStub
from regie.publisher.v1.networks_service_pb2_grpc import NetworksServiceStub
from regie.scheduler.v1.posts_service_pb2_grpc import PostsServiceStub
from regie_chassis.boundary.rpc import open_channel
from regie_chassis.process.settings import WrongSetting


@dataclass(frozen=True, slots=True)
class Backends:
    """Stubs that connect at the first call."""

    posts: PostsServiceStub
    channels: ChannelsServiceStub
    media: MediaServiceStub
    deliveries: DeliveriesServiceStub
    networks: NetworksServiceStub
    profiles: ProfilesServiceStub
    segments: SegmentsServiceStub
    post_metrics: PostMetricsServiceStub
    connections: tuple[grpc.aio.Channel, ...]

    async def close(self) -> None:
        """Closes the connections."""
        for connection in self.connections:
            await connection.close()


def open_backends(targets: Mapping[str, str]) -> Backends:
    """Returns the stubs for services at host:port each. Needs a running event loop. Raises WrongSetting."""
    to = {service: open_channel(target) for service, target in targets.items()}
    try:
        return Backends(
            posts=PostsServiceStub(to["scheduler"]),
            channels=ChannelsServiceStub(to["publisher"]),
            media=MediaServiceStub(to["publisher"]),
            deliveries=DeliveriesServiceStub(to["publisher"]),
            networks=NetworksServiceStub(to["publisher"]),
            profiles=ProfilesServiceStub(to["audience"]),
            segments=SegmentsServiceStub(to["audience"]),
            post_metrics=PostMetricsServiceStub(to["metrics"]),
            connections=tuple(to.values()),
        )
    except KeyError as error:
        raise WrongSetting(f"GATEWAY_TARGETS: give the host:port of {error}, too") from error
