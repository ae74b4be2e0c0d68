"""The guard on every fetch by URL: it never connects to a private, loopback, link-local or metadata address.

The name is resolved once, every address of the answer is judged, and the connection is made to the judged address,
so a name that changes its address in between (DNS rebinding) gains nothing. Redirects are not followed.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any

import httpcore2
import httpx2

from regie_networks.host_limits import HostLimits
from regie_networks.resolving import shared_resolver

TIMEOUT = httpx2.Timeout(20.0, connect=5.0, pool=5.0)
LIMITS = httpx2.Limits(max_connections=None, max_keepalive_connections=100, keepalive_expiry=30)
"""Connections to all hosts together; each host and each caller has a bound of its own."""
PER_HOST = 100
TRACE_HEADERS = ("traceparent", "tracestate", "baggage")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
# What Pythons of different ages judge differently, or take for public.
_SPECIAL_V4 = (
    ipaddress.IPv4Network("192.0.0.0/24"),  # RFC 6890: protocol assignments
    ipaddress.IPv4Network("192.88.99.0/24"),  # RFC 7526: 6to4 relays, withdrawn; one that still stands forwards
)
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")  # RFC 4291; the rest holds site-local and other wrapped forms
_SPECIAL_V6 = (
    ipaddress.IPv6Network("2001::/23"),  # RFC 2928: protocol assignments, Teredo's wrapped IPv4 among them
    ipaddress.IPv6Network("2001:db8::/32"),  # RFC 3849: documentation
    ipaddress.IPv6Network("3fff::/20"),  # RFC 9637: documentation
)

Resolve = Callable[[str, int], Awaitable[list[str]]]
"""All addresses of a host, in the order of attempts."""


def is_public(address: str) -> bool:
    """True for an address of the public internet, looking through IPv4 wrapped in IPv6."""
    ip = ipaddress.ip_address(address.split("%", 1)[0])
    if isinstance(ip, ipaddress.IPv6Address):
        wrapped = ip.ipv4_mapped or ip.sixtofour
        if wrapped is None and ip in _NAT64:
            wrapped = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if wrapped is not None:
            return _is_public_v4(wrapped)
        special = any(ip in network for network in _SPECIAL_V6)
        return ip in _GLOBAL_UNICAST and not special and ip.is_global and not ip.is_multicast
    return _is_public_v4(ip)


def _is_public_v4(ip: ipaddress.IPv4Address) -> bool:
    special = any(ip in network for network in _SPECIAL_V4)
    return ip.is_global and not special and not ip.is_multicast


def place_of(host: str, port: int) -> str:
    """Returns `host:port` in the form that allowed places are compared in, IPv6 in brackets."""
    bare = host.strip("[]").lower()
    return f"[{bare}]:{port}" if ":" in bare else f"{bare}:{port}"


def read_place(text: str) -> str:
    """Returns an allowed place in that form. Raises ValueError for one without a port, which would mean all ports."""
    host, _, port = text.strip().rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    if not bare or (":" in bare) != (bare != host) or not port.isascii() or not port.isdigit():
        raise ValueError("name each host with its port, as in 127.0.0.1:8090")
    if "/" in bare or "@" in bare or not 0 < int(port[:6]) < 65536:
        raise ValueError("name each host with its port, as in 127.0.0.1:8090")
    return place_of(bare, int(port))


class _GuardedBackend(httpcore2.AsyncNetworkBackend):
    """Judges every address before a connection is made to it."""

    def __init__(
        self, allowed_hosts: frozenset[str], *, resolve: Resolve, inner: httpcore2.AsyncNetworkBackend
    ) -> None:
        self._inner = inner
        self._allowed = allowed_hosts
        self._resolve_all = resolve

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        if place_of(host, port) in self._allowed:
            return await self._inner.connect_tcp(host, port, timeout, local_address, socket_options)
        addresses = await self._resolve(host, port, timeout)
        refused = [address for address in addresses if not is_public(address)]
        if refused or not addresses:
            raise httpcore2.ConnectError(f"{host} is not a public address; give the network's public https address")
        return await self._inner.connect_tcp(addresses[0], port, timeout, local_address, socket_options)

    async def _resolve(self, host: str, port: int, timeout: float | None) -> list[str]:
        try:
            async with asyncio.timeout(timeout):
                return await self._resolve_all(host, port)
        except TimeoutError as error:  # before OSError, whose child it is
            raise httpcore2.ConnectTimeout(f"{host} was not resolved in time") from error
        except (OSError, UnicodeError) as error:
            raise httpcore2.ConnectError(f"{host} cannot be resolved") from error

    async def connect_unix_socket(
        self,
        path: str,  # of the protocol
        timeout: float | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        raise httpcore2.ConnectError("unix sockets are not connected to")

    async def sleep(self, seconds: float) -> None:
        await self._inner.sleep(seconds)


class _Connection(httpcore2.AsyncHTTPConnection):
    """A connection that is not used again once the server has sent more than the response.

    Surplus bytes behind a response would be taken for the response to the next request, which may be another
    tenant's.
    """

    def has_expired(self) -> bool:
        return super().has_expired() or self._has_more_than_asked_for()

    def is_available(self) -> bool:
        return super().is_available() and not self._has_more_than_asked_for()

    def _has_more_than_asked_for(self) -> bool:
        state = getattr(self._connection, "_h11_state", None)
        return state is not None and self.is_idle() and bool(state.trailing_data[0])


class _UntracedTransport(httpx2.AsyncHTTPTransport):
    """Leaves out the headers of instrumentation: foreign servers have no part in our traces; allowed places do."""

    own_places: frozenset[str] = frozenset()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        port = request.url.port or (443 if request.url.scheme == "https" else 80)
        if place_of(request.url.host, port) not in self.own_places:
            for name in TRACE_HEADERS:
                request.headers.pop(name, None)
        return await super().handle_async_request(request)


def guarded_client(
    *,
    allowed_hosts: Iterable[str] = (),
    verify: bool = True,
    per_host: int = PER_HOST,
    resolve: Resolve | None = None,
    network: httpcore2.AsyncNetworkBackend | None = None,
) -> httpx2.AsyncClient:
    """Returns a client that connects to public addresses only, plus the places `host:port` that are named (a sandbox).

    `resolve` and `network`, which opens the judged connections, are for tests.
    """
    allowed = frozenset(allowed_hosts)
    transport = _UntracedTransport(limits=LIMITS, verify=verify, trust_env=False)
    transport.own_places = allowed
    pool = transport._pool  # noqa: SLF001  # httpx2 offers no argument for the network backend
    pool._network_backend = _GuardedBackend(  # noqa: SLF001
        allowed, resolve=resolve or shared_resolver(), inner=network or httpcore2.AnyIOBackend()
    )
    pool.create_connection = partial(_open_connection, pool)  # type: ignore[method-assign]
    limited = HostLimits(transport, per_host=per_host)
    return httpx2.AsyncClient(transport=limited, timeout=TIMEOUT, follow_redirects=False, trust_env=False)


def _open_connection(pool: httpcore2.AsyncConnectionPool, origin: httpcore2.Origin) -> _Connection:
    return _Connection(
        origin=origin,
        ssl_context=pool._ssl_context,  # noqa: SLF001  # as the pool's own method does
        keepalive_expiry=pool._keepalive_expiry,  # noqa: SLF001
        http1=True,
        http2=False,
        network_backend=pool._network_backend,  # noqa: SLF001
    )
