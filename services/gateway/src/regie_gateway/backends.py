"""The services behind: one channel each, and one stub for each of their capabilities."""

from __future__ import annotations

from dataclasses import dataclass

import grpc
from regie.audience.v1.profiles_service_pb2_grpc import ProfilesServiceStub
from regie.audience.v1.segments_service_pb2_grpc import SegmentsServiceStub
from regie.metrics.v1.post_metrics_service_pb2_grpc import PostMetricsServiceStub
from regie.publisher.v1.channels_service_pb2_grpc import ChannelsServiceStub
from regie.publisher.v1.deliveries_service_pb2_grpc import DeliveriesServiceStub
from regie.publisher.v1.media_service_pb2_grpc import MediaServiceStub
from regie.scheduler.v1.posts_service_pb2_grpc import PostsServiceStub
from regie_chassis.rpc import open_channel


@dataclass(frozen=True, slots=True)
class Backends:
    """Stubs that connect at the first call."""

    posts: PostsServiceStub
    channels: ChannelsServiceStub
    media: MediaServiceStub
    deliveries: DeliveriesServiceStub
    profiles: ProfilesServiceStub
    segments: SegmentsServiceStub
    post_metrics: PostMetricsServiceStub
    connections: tuple[grpc.aio.Channel, ...]

    async def close(self) -> None:
        """Closes the connections."""
        for connection in self.connections:
            await connection.close()


def open_backends(*, scheduler: str, publisher: str, audience: str, metrics: str) -> Backends:
    """Returns the stubs for four targets, host:port each. Needs a running event loop."""
    connections = tuple(open_channel(target) for target in (scheduler, publisher, audience, metrics))
    to_scheduler, to_publisher, to_audience, to_metrics = connections
    return Backends(
        posts=PostsServiceStub(to_scheduler),
        channels=ChannelsServiceStub(to_publisher),
        media=MediaServiceStub(to_publisher),
        deliveries=DeliveriesServiceStub(to_publisher),
        profiles=ProfilesServiceStub(to_audience),
        segments=SegmentsServiceStub(to_audience),
        post_metrics=PostMetricsServiceStub(to_metrics),
        connections=connections,
    )
