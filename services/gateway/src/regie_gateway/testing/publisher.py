"""A publisher with memory."""

# ruff: noqa: N802, ARG002  # the names and parameters are those of the generated servicer

from __future__ import annotations

from typing import Any

from regie.ids.v1.prefixes import CHANNEL, MEDIA
from regie.publisher.v1 import channels_service_pb2 as channels_pb
from regie.publisher.v1 import deliveries_service_pb2 as deliveries_pb
from regie.publisher.v1 import media_service_pb2 as media_pb
from regie.publisher.v1.channels_service_pb2_grpc import ChannelsServiceServicer
from regie.publisher.v1.deliveries_service_pb2_grpc import DeliveriesServiceServicer
from regie.publisher.v1.media_service_pb2_grpc import MediaServiceServicer
from regie_chassis.boundary.errors import Invalid, NotFound
from regie_chassis.boundary.ids import new_id, show_id

from regie_gateway.testing.memory import Memory, timestamp


class ChannelNotFound(NotFound):
    """No such channel."""


class DeliveryNotFound(NotFound):
    """No such delivery."""


class UnknownNetwork(Invalid):
    """No such network."""


class FakePublisher(ChannelsServiceServicer, MediaServiceServicer, DeliveriesServiceServicer):
    """Connects channels and keeps media in memory; a test puts deliveries into it."""

    def __init__(self) -> None:
        self.memory = Memory()
        self.deliveries: dict[str, list[deliveries_pb.Delivery]] = {}
        self.unknown_networks = {"nowhere"}
        self.seconds_to_connect: float | None = None
        """How long the last ConnectChannel might have taken."""

    async def ConnectChannel(
        self, request: channels_pb.ConnectChannelRequest, context: Any
    ) -> channels_pb.ConnectChannelResponse:
        self.seconds_to_connect = context.time_remaining()

        def act() -> channels_pb.ConnectChannelResponse:
            if request.network in self.unknown_networks:
                raise UnknownNetwork("choose one of GET /v1/networks", field="network")
            channel = channels_pb.Channel(
                channel_id=show_id(CHANNEL, new_id()),
                network=request.network,
                server_url=request.server_url,
                handle="press",
                state=channels_pb.CHANNEL_STATE_ACTIVE,
                create_time=timestamp(),
            )
            self.memory.put(channel.channel_id, channel)
            return channels_pb.ConnectChannelResponse(channel=channel)

        return await self.memory.once(request, act)

    async def GetChannel(self, request: channels_pb.GetChannelRequest, context: Any) -> channels_pb.GetChannelResponse:
        self.memory.see(request)
        return channels_pb.GetChannelResponse(channel=self._find(request.channel_id))

    async def ListChannels(
        self, request: channels_pb.ListChannelsRequest, context: Any
    ) -> channels_pb.ListChannelsResponse:
        self.memory.see(request)
        return channels_pb.ListChannelsResponse(channels=self.memory.all(channels_pb.Channel)[: request.page_size])

    async def DisconnectChannel(
        self, request: channels_pb.DisconnectChannelRequest, context: Any
    ) -> channels_pb.DisconnectChannelResponse:
        def act() -> channels_pb.DisconnectChannelResponse:
            channel = self._find(request.channel_id)
            channel.state = channels_pb.CHANNEL_STATE_DISCONNECTED
            return channels_pb.DisconnectChannelResponse(channel=channel)

        return await self.memory.once(request, act)

    async def CompleteUpload(
        self, request: media_pb.CompleteUploadRequest, context: Any
    ) -> media_pb.CompleteUploadResponse:
        def act() -> media_pb.CompleteUploadResponse:
            media = media_pb.Media(
                media_id=show_id(MEDIA, new_id()),
                content_type="image/png",
                size=request.size,
                width=1,
                height=1,
                frames=1,
            )
            return media_pb.CompleteUploadResponse(media=media)

        return await self.memory.once(request, act)

    async def ListDeliveries(
        self, request: deliveries_pb.ListDeliveriesRequest, context: Any
    ) -> deliveries_pb.ListDeliveriesResponse:
        self.memory.see(request)
        return deliveries_pb.ListDeliveriesResponse(deliveries=self.deliveries.get(request.post_id, []))

    async def ResolveDelivery(
        self, request: deliveries_pb.ResolveDeliveryRequest, context: Any
    ) -> deliveries_pb.ResolveDeliveryResponse:
        def act() -> deliveries_pb.ResolveDeliveryResponse:
            for delivery in (one for found in self.deliveries.values() for one in found):
                if delivery.delivery_id == request.delivery_id:
                    delivery.state = (
                        deliveries_pb.DELIVERY_STATE_PUBLISHED
                        if request.published
                        else deliveries_pb.DELIVERY_STATE_PENDING
                    )
                    return deliveries_pb.ResolveDeliveryResponse(delivery=delivery)
            raise DeliveryNotFound("there is no such delivery in this workspace", field="delivery_id")

        return await self.memory.once(request, act)

    def _find(self, channel_id: str) -> channels_pb.Channel:
        channel = self.memory.get(channel_id)
        if channel is None:
            raise ChannelNotFound("there is no such channel in this workspace", field="channel_id")
        assert isinstance(channel, channels_pb.Channel)
        return channel
