"""The networks of a publisher, kept in memory."""

# ruff: noqa: N802, ARG002  # the names and parameters are those of the generated servicer

from __future__ import annotations

from typing import Any

from regie.publisher.v1 import networks_service_pb2 as pb
from regie.publisher.v1.networks_service_pb2_grpc import NetworksServiceServicer

from regie_gateway.testing.memory import Memory


class FakeNetworks(NetworksServiceServicer):
    """Lists the networks that a test puts into it; at first one, of a message's least."""

    def __init__(self) -> None:
        self.memory = Memory()
        self.networks = [pb.Network(name="sandbox", title="Sandbox", server_address="optional", once="none")]

    async def ListNetworks(self, request: pb.ListNetworksRequest, context: Any) -> pb.ListNetworksResponse:
        self.memory.see(request)
        return pb.ListNetworksResponse(networks=self.networks)
