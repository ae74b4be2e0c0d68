"""The networks by name: the only list of them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from types import MappingProxyType

import httpx2

from regie_networks.bluesky.network import NETWORK as BLUESKY
from regie_networks.contract import Connector
from regie_networks.mastodon.network import NETWORK as MASTODON
from regie_networks.network import Network
from regie_networks.sandbox.network import NETWORK as SANDBOX

NETWORKS: Mapping[str, Network] = MappingProxyType({one.name: one for one in (BLUESKY, MASTODON, SANDBOX)})


def offered_networks(*, stand_ins: bool) -> dict[str, Network]:
    """Returns the networks that an installation offers; stand-ins only where a setting allows them."""
    return {name: network for name, network in NETWORKS.items() if stand_ins or not network.is_stand_in}


def build_connectors(
    networks: Mapping[str, Network],
    client: httpx2.AsyncClient,
    *,
    quiet: timedelta,
    main_servers: Mapping[str, str],
) -> dict[str, Connector]:
    """Returns a connector for each network; `main_servers` are those of the settings, by network."""
    return {
        name: network.connector(client, quiet=quiet, main_server=main_servers.get(name, ""))
        for name, network in networks.items()
    }
