"""The RPC of networks: descriptor, message."""

from __future__ import annotations

from collections.abc import Mapping

from regie.publisher.v1 import networks_service_pb2 as pb
from regie.publisher.v1.networks_service_pb2_grpc import NetworksServiceServicer
from regie_chassis.boundary.rpc import Context
from regie_networks.content import Limit, MediaRule
from regie_networks.network import Network


class NetworksServicer(NetworksServiceServicer):
    """Answers `NetworksService`: the same for every caller. `main_servers` are those of the settings, by network."""

    def __init__(self, networks: Mapping[str, Network], *, main_servers: Mapping[str, str]) -> None:
        shown = [show_network(network, main_servers.get(name, "")) for name, network in sorted(networks.items())]
        self._response = pb.ListNetworksResponse(networks=shown)

    async def ListNetworks(self, request: pb.ListNetworksRequest, context: Context) -> pb.ListNetworksResponse:
        return self._response


def show_network(network: Network, main_server: str) -> pb.Network:
    """Returns a network as a message."""
    rules = network.rules
    return pb.Network(
        name=network.name,
        title=network.title,
        documentation_url=network.documentation_url,
        server_address=network.server_address,
        main_server=main_server or network.main_server,
        credentials=[
            pb.CredentialField(
                name=field.name, label=field.label, help=field.help, secret=field.is_secret, required=field.is_required
            )
            for field in network.credentials
        ],
        formats=rules.formats,
        visibilities=rules.visibilities,
        text_limits=[_show_limit(limit) for limit in rules.text],
        max_attachments=rules.max_attachments,
        media_rules=[_show_media_rule(rule) for rule in rules.media],
        alt_text_limit=None if rules.alt_text is None else _show_limit(rules.alt_text),
        limits_per_server=rules.is_per_server,
        metrics=network.metrics,
        verbs=network.verbs,
        once=network.once,
        account_metrics=network.account_metrics,
    )


def _show_limit(limit: Limit) -> pb.ContentLimit:
    return pb.ContentLimit(
        maximum=limit.maximum,
        unit=limit.unit,
        source_url=limit.source.public_url,
        source_date=limit.source.read_date.isoformat(),
    )


def _show_media_rule(rule: MediaRule) -> pb.MediaRule:
    return pb.MediaRule(
        kind=rule.kind,
        content_types=rule.content_types,
        max_bytes=rule.max_bytes or 0,
        max_pixels=rule.max_pixels or 0,
        fitted=rule.is_fitted,
        source_url=rule.source.public_url,
        source_date=rule.source.read_date.isoformat(),
    )
