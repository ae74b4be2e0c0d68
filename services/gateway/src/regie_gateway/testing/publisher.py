"""A publisher with memory."""

# ruff: noqa: N802, ARG002  # the names and parameters are those of the generated servicer

from __future__ import annotations

from typing import Any

from regie.publisher.v1 import publisher_service_pb2 as pb
from regie.publisher.v1.publisher_service_pb2_grpc import PublisherServiceServicer
from regie_chassis.errors import Invalid, NotFound
from regie_chassis.ids import CHANNEL, MEDIA, new_id, show_id

from regie_gateway.testing.memory import Memory, timestamp


class ChannelNotFound(NotFound):
    """No such channel."""


class DeliveryNotFound(NotFound):
    """No such delivery."""


class UnknownNetwork(Invalid):
    """No such network."""


class FakePublisher(PublisherServiceServicer):
    """Connects channels and keeps media in memory; deliveries are what a test puts into it."""

    def __init__(self) -> None:
        self.memory = Memory()
        self.deliveries: dict[str, list[pb.Delivery]] = {}
        self.unknown_networks = {"nowhere"}
        self.seconds_to_connect: float | None = None
        """How long the last ConnectChannel might have taken."""

    async def ConnectChannel(self, request: pb.ConnectChannelRequest, context: Any) -> pb.ConnectChannelResponse:
        self.seconds_to_connect = context.time_remaining()

        def act() -> pb.ConnectChannelResponse:
            if request.network in self.unknown_networks:
                raise UnknownNetwork("choose one of GET /v1/networks", field="network")
            channel = pb.Channel(
                channel_id=show_id(CHANNEL, new_id()),
                network=request.network,
                server_url=request.server_url,
                handle="press",
                state="active",
                create_time=timestamp(),
            )
            self.memory.put(channel.channel_id, channel)
            return pb.ConnectChannelResponse(channel=channel)

        return await self.memory.once(request, act)

    async def GetChannel(self, request: pb.GetChannelRequest, context: Any) -> pb.GetChannelResponse:
        self.memory.see(request)
        return pb.GetChannelResponse(channel=self._find(request.channel_id))

    async def ListChannels(self, request: pb.ListChannelsRequest, context: Any) -> pb.ListChannelsResponse:
        self.memory.see(request)
        return pb.ListChannelsResponse(channels=self.memory.all(pb.Channel)[: request.page_size])

    async def DisconnectChannel(
        self, request: pb.DisconnectChannelRequest, context: Any
    ) -> pb.DisconnectChannelResponse:
        def act() -> pb.DisconnectChannelResponse:
            channel = self._find(request.channel_id)
            channel.state = "disconnected"
            return pb.DisconnectChannelResponse(channel=channel)

        return await self.memory.once(request, act)

    async def UploadMedia(self, request: pb.UploadMediaRequest, context: Any) -> pb.UploadMediaResponse:
        def act() -> pb.UploadMediaResponse:
            size = len(request.data)
            media = pb.Media(
                media_id=show_id(MEDIA, new_id()), content_type="image/png", size=size, width=1, height=1, frames=1
            )
            return pb.UploadMediaResponse(media=media)

        return await self.memory.once(request, act)

    async def ListDeliveries(self, request: pb.ListDeliveriesRequest, context: Any) -> pb.ListDeliveriesResponse:
        self.memory.see(request)
        return pb.ListDeliveriesResponse(deliveries=self.deliveries.get(request.post_id, []))

    async def ResolveDelivery(self, request: pb.ResolveDeliveryRequest, context: Any) -> pb.ResolveDeliveryResponse:
        def act() -> pb.ResolveDeliveryResponse:
            for delivery in (one for found in self.deliveries.values() for one in found):
                if delivery.delivery_id == request.delivery_id:
                    delivery.state = "published" if request.published else "pending"
                    return pb.ResolveDeliveryResponse(delivery=delivery)
            raise DeliveryNotFound("there is no such delivery in this workspace", field="delivery_id")

        return await self.memory.once(request, act)

    def _find(self, channel_id: str) -> pb.Channel:
        channel = self.memory.get(channel_id)
        if channel is None:
            raise ChannelNotFound("there is no such channel in this workspace", field="channel_id")
        assert isinstance(channel, pb.Channel)
        return channel
