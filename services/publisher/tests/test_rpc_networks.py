"""The networks as the publisher's RPC shows them."""

from __future__ import annotations

from typing import Any

from regie.publisher.v1 import networks_service_pb2 as pb
from regie_networks.registry import NETWORKS
from regie_publisher.rpc.networks import NetworksServicer


async def listed(**main_servers: str) -> dict[str, Any]:
    servicer = NetworksServicer(NETWORKS, main_servers=main_servers)
    response = await servicer.ListNetworks(pb.ListNetworksRequest(), None)  # type: ignore[arg-type]
    return {network.name: network for network in response.networks}


async def test_every_network_is_listed_by_name_with_its_facts() -> None:
    networks = await listed()
    assert list(networks) == sorted(NETWORKS)
    bluesky = networks["bluesky"]
    assert [(limit.maximum, limit.unit) for limit in bluesky.text_limits] == [(3000, "bytes"), (300, "graphemes")]
    assert [(field.name, field.secret) for field in bluesky.credentials] == [
        ("identifier", False),
        ("app_password", True),
    ]
    assert (bluesky.once, bluesky.server_address, bluesky.main_server) == ("own_key", "optional", "https://bsky.social")
    assert not bluesky.HasField("alt_text_limit")
    assert networks["mastodon"].limits_per_server
    assert networks["mastodon"].alt_text_limit.maximum == 1500


async def test_the_main_server_of_the_settings_is_the_one_that_is_shown() -> None:
    assert (await listed(sandbox="http://127.0.0.1:1"))["sandbox"].main_server == "http://127.0.0.1:1"


async def test_every_address_of_a_page_is_one_that_a_browser_opens() -> None:
    networks = await listed()
    pages = {name: {network.documentation_url, *_sources(network)} for name, network in networks.items()}
    assert pages.pop("sandbox") == {""}
    for name, addresses in pages.items():
        assert all(address.startswith("https://") for address in addresses), name


def _sources(network: pb.Network) -> set[str]:
    sources = {limit.source_url for limit in network.text_limits} | {rule.source_url for rule in network.media_rules}
    return sources | ({network.alt_text_limit.source_url} if network.HasField("alt_text_limit") else set())
