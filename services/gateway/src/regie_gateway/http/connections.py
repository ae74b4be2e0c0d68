"""Limits on connections, and the address of a client: its peer's, or the one forwarded by a trusted proxy."""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Iterable

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
MAX_HOPS = 20  # addresses that are read in one X-Forwarded-For


class TrustedProxies:
    """The trusted proxies, which forward a client's address; without one the address is the peer's."""

    def __init__(self, networks: Iterable[str] = ()) -> None:
        self._networks: list[Network] = [ipaddress.ip_network(one) for one in networks]

    def trusts(self, address: str) -> bool:
        """True for the address of one of our proxies."""
        if not self._networks:
            return False
        try:
            ip = ipaddress.ip_address(address.split("%", 1)[0])
        except ValueError:
            return False
        mapped = getattr(ip, "ipv4_mapped", None)
        return any((mapped or ip) in network for network in self._networks)

    def client_of(self, peer: str, forwarded_for: str) -> str:
        """Returns the last address in X-Forwarded-For that is no proxy of ours: those before it anybody may invent."""
        client = peer
        for hop in reversed(forwarded_for.split(",")[-MAX_HOPS:]):
            if not self.trusts(client):
                break
            try:
                client = str(ipaddress.ip_address(_bare(hop.strip())))
            except ValueError:
                break
        return client


def _bare(hop: str) -> str:
    """Takes the port from an address: 1.2.3.4:5, [::1]:5."""
    if hop.startswith("["):
        return hop[1:].partition("]")[0]
    return hop.partition(":")[0] if hop.count(":") == 1 else hop


class ConnectionLimits:
    """Counts the connections of this process, in all and by peer; those of trusted proxies in all only."""

    def __init__(self, *, total: int, per_address: int, proxies: TrustedProxies) -> None:
        self.proxies = proxies
        self._total = total
        self._per_address = per_address
        self._count = 0
        self._by_address: Counter[str] = Counter()

    def open(self, address: str) -> bool:
        """Counts a connection; False when there are too many already."""
        self._count += 1
        self._by_address[address] += 1
        if self._count > self._total:
            return False
        return self._by_address[address] <= self._per_address or self.proxies.trusts(address)

    def close(self, address: str) -> None:
        """Forgets a connection that `open` has counted."""
        self._count -= 1
        self._by_address[address] -= 1
        if not self._by_address[address]:
            del self._by_address[address]
