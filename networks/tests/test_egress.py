"""The guard against server-side request forgery: its refusals, and attempts to get around it."""

# ruff: noqa: ARG002  # fakes take what the protocol gives them

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import AsyncIterator, Iterable
from typing import Any

import httpcore2
import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.instrumentation.httpx import HTTPX2ClientInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from regie_networks.egress import guarded_client, is_public, read_place

PRIVATE_NETWORKS = [
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",
    "240.0.0.0/4",
]
PRIVATE_NETWORKS_6 = [
    "::/128",
    "::1/128",
    "::/96",  # IPv4-compatible
    "::ffff:0:0:0/96",  # IPv4-translated
    "64:ff9b:1::/48",  # local NAT64
    "100::/64",
    "2001::/23",
    "2001:db8::/32",
    "3fff::/20",
    "5f00::/16",
    "fc00::/7",
    "fe80::/10",
    "fec0::/10",
    "ff00::/8",
]
WRAPPINGS = ["::ffff:0:0/96", "64:ff9b::/96", "2002::/16"]


def addresses_in(networks: list[str]) -> st.SearchStrategy[Any]:
    return st.sampled_from(networks).flatmap(
        lambda text: st.integers(0, ipaddress.ip_network(text).num_addresses - 1).map(
            lambda offset: ipaddress.ip_network(text)[offset]
        )
    )


def wrapped(network: str, inner: ipaddress.IPv4Address) -> ipaddress.IPv6Address:
    shift = 80 if network.startswith("2002") else 0
    return ipaddress.IPv6Address(int(ipaddress.IPv6Network(network)[0]) | int(inner) << shift)


@given(addresses_in(PRIVATE_NETWORKS))
def test_no_address_of_a_private_ipv4_network_is_public(address: ipaddress.IPv4Address) -> None:
    assert not is_public(str(address))


@given(addresses_in(PRIVATE_NETWORKS_6))
def test_no_address_of_a_private_ipv6_network_is_public(address: ipaddress.IPv6Address) -> None:
    assert not is_public(str(address))


@given(addresses_in(PRIVATE_NETWORKS), st.sampled_from(WRAPPINGS))
def test_a_private_ipv4_address_is_seen_through_its_ipv6_wrapping(inner: ipaddress.IPv4Address, network: str) -> None:
    assert not is_public(str(wrapped(network, inner)))


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "1.1.1.1", "2606:4700:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]
)
def test_public_addresses_are_public(address: str) -> None:
    assert is_public(address)


def test_a_scoped_link_local_address_is_not_public() -> None:
    assert not is_public("fe80::1%eth0")


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/",
        "http://127.1/",
        "http://2130706433/",
        "http://0x7f000001/",
        "http://0x7f.0.0.1/",
        "http://0177.0.0.1/",
        "http://017700000001/",
        "http://0.0.0.0/",
        "http://0/",
        "http://localhost/",
        "http://LOCALHOST/",
        "http://localhost./",
        "http://169.254.169.254/latest/meta-data/",
        "http://2852039166/",
        "http://10.1.2.3/",
        "http://100.64.0.1/",
        "http://192.168.1.1/",
        "http://224.0.0.1/",
        "http://255.255.255.255/",
        "http://[::]/",
        "http://[::1]/",
        "http://[::127.0.0.1]/",
        "http://[::ffff:127.0.0.1]/",
        "http://[::ffff:a9fe:a9fe]/",
        "http://[64:ff9b::127.0.0.1]/",
        "http://[2002:7f00:1::]/",
        "http://[fc00::1]/",
        "http://[fd00:ec2::254]/",
        "http://[fe80::1]/",
        "http://[fec0::1]/",
        "http://[ff02::1]/",
        "http://user:password@127.0.0.1/",
        "http://\uff11\uff12\uff17.\uff10.\uff10.\uff11/",
    ],
)
async def test_no_way_of_writing_a_private_address_gets_through(url: str) -> None:
    network = RecordingNetwork()
    async with guarded_client(network=network) as client:
        with pytest.raises((httpx2.ConnectError, httpx2.InvalidURL)):
            await client.get(url)
    assert network.connected == []


class RecordingNetwork(httpcore2.AsyncNetworkBackend):
    """Keeps where connections would have been made to, and makes none."""

    def __init__(self) -> None:
        self.connected: list[str] = []

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        self.connected.append(host)
        raise httpcore2.ConnectError("not connected in this test")


class ScriptedNames:
    """A resolver that gives each of its answers once, in order."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> list[str]:
        self.asked.append(host)
        return self.answers.pop(0)


async def test_a_name_with_a_public_and_a_private_address_is_refused() -> None:
    for answer in (["8.8.8.8", "10.0.0.1"], ["10.0.0.1", "8.8.8.8"], ["2606:4700::1", "::1"], []):
        network = RecordingNetwork()
        async with guarded_client(resolve=ScriptedNames(answer), network=network) as client:
            with pytest.raises(httpx2.ConnectError, match="not a public address"):
                await client.get("http://mixed.example/")
        assert network.connected == []


async def test_a_name_is_resolved_once_and_the_judged_address_is_connected_to() -> None:
    names, network = ScriptedNames(["8.8.8.8"], ["127.0.0.1"]), RecordingNetwork()
    async with guarded_client(resolve=names, network=network) as client:
        with pytest.raises(httpx2.ConnectError, match="not connected in this test"):
            await client.get("http://rebinding.example/")
    assert names.asked == ["rebinding.example"]
    assert network.connected == ["8.8.8.8"]


async def test_a_name_that_turns_private_is_refused_at_the_next_connection() -> None:
    names, network = ScriptedNames(["8.8.8.8"], ["127.0.0.1"]), RecordingNetwork()
    async with guarded_client(resolve=names, network=network) as client:
        with pytest.raises(httpx2.ConnectError, match="not connected in this test"):
            await client.get("http://rebinding.example/")
        with pytest.raises(httpx2.ConnectError, match="not a public address"):
            await client.get("http://rebinding.example/")


async def test_a_name_that_cannot_be_resolved_is_a_connection_error() -> None:
    async def unknown(host: str, port: int) -> list[str]:
        raise OSError("no such name")

    async with guarded_client(resolve=unknown) as client:
        with pytest.raises(httpx2.ConnectError, match="cannot be resolved"):
            await client.get("http://nowhere.example/")


async def test_a_resolver_that_does_not_answer_is_bounded() -> None:
    async def silent(host: str, port: int) -> list[str]:
        await asyncio.Event().wait()
        return []

    async with guarded_client(resolve=silent) as client:
        with pytest.raises(httpx2.ConnectTimeout):
            await client.get("http://silent.example/", timeout=0.1)


@pytest.fixture
async def redirecting() -> AsyncIterator[tuple[int, list[bytes]]]:
    """A server on the loopback that sends everyone to the metadata address."""
    seen: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1], seen


async def test_an_allowed_host_is_reached_and_its_redirect_is_not_followed(
    redirecting: tuple[int, list[bytes]],
) -> None:
    port, seen = redirecting
    async with guarded_client(allowed_hosts=[f"127.0.0.1:{port}"]) as client:
        answer = await client.get(f"http://127.0.0.1:{port}/")
    assert answer.status_code == 302
    assert len(seen) == 1


@pytest.mark.parametrize(
    ("surplus", "connections"), [(b"", 1), (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nother", 3)]
)
async def test_an_answer_that_nobody_asked_for_is_no_answer_to_the_next_request(
    surplus: bytes, connections: int
) -> None:
    opened = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal opened
        opened += 1
        try:
            while True:
                path = (await reader.readuntil(b"\r\n\r\n")).split(b" ")[1]
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(path), path) + surplus)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client has gone
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, guarded_client(allowed_hosts=[f"127.0.0.1:{port}"]) as client:
        answers = [(await client.get(f"http://127.0.0.1:{port}/{name}")).text for name in ("one", "two", "three")]
    assert answers == ["/one", "/two", "/three"]
    assert opened == connections


async def test_only_the_named_host_is_allowed(redirecting: tuple[int, list[bytes]]) -> None:
    port, seen = redirecting
    async with guarded_client(allowed_hosts=[f"127.0.0.1:{port}"]) as client:
        with pytest.raises(httpx2.ConnectError):
            await client.get(f"http://localhost:{port}/")
    assert seen == []


async def test_another_port_of_an_allowed_host_is_not_allowed(redirecting: tuple[int, list[bytes]]) -> None:
    port, seen = redirecting
    async with guarded_client(allowed_hosts=[f"127.0.0.1:{port % 65535 + 1}", "127.0.0.1"]) as client:
        with pytest.raises(httpx2.ConnectError):
            await client.get(f"http://127.0.0.1:{port}/")
    assert seen == []


@pytest.mark.parametrize("allowed", [True, False])
async def test_the_trace_of_a_call_reaches_named_places_only(
    redirecting: tuple[int, list[bytes]], allowed: bool
) -> None:
    port, seen = redirecting

    class Rerouting(httpcore2.AsyncNetworkBackend):
        """Leads a public address to the server on the loopback."""

        async def connect_tcp(self, host: str, port_: int, *rest: Any) -> httpcore2.AsyncNetworkStream:
            return await httpcore2.AnyIOBackend().connect_tcp("127.0.0.1", port)

    places = ["1.1.1.1:8080"] if allowed else []
    async with guarded_client(allowed_hosts=places, network=Rerouting()) as client:
        HTTPX2ClientInstrumentor.instrument_client(client, tracer_provider=TracerProvider())
        await client.get("http://1.1.1.1:8080/", headers={"baggage": "a=b"})
    assert b"host: 1.1.1.1:8080" in seen[0].lower()
    assert (b"traceparent" in seen[0].lower()) is allowed
    assert (b"baggage" in seen[0].lower()) is allowed


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("127.0.0.1:8090", "127.0.0.1:8090"),
        (" Sandbox:8090 ", "sandbox:8090"),
        ("[::1]:80", "[::1]:80"),
    ],
)
def test_an_allowed_place_is_a_host_and_a_port(text: str, place: str) -> None:
    assert read_place(text) == place


@pytest.mark.parametrize(
    "text", ["", "127.0.0.1", "sandbox", "::1", "::1:80", "h:", ":80", "h:0", "h:65536", "h:8o", "a@h:1"]
)
def test_a_place_without_a_port_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="with its port"):
        read_place(text)


async def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    names, network = ScriptedNames(["8.8.8.8"]), RecordingNetwork()
    async with guarded_client(resolve=names, network=network) as client:
        with pytest.raises(httpx2.ConnectError):
            await client.get("http://public.example/")
    assert network.connected == ["8.8.8.8"]
