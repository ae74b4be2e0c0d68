"""Connections by host, and names that nobody resolves."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator

import httpx2
import pytest
from regie_local.testing.waiting import until
from regie_networks.host_limits import HostLimits
from regie_networks.resolving import Resolver, owner_of


class Network(httpx2.AsyncBaseTransport):
    """Answers at once, but for hosts that hang."""

    def __init__(self) -> None:
        self.calls: list[httpx2.Request] = []
        self.release = asyncio.Event()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        self.calls.append(request)
        if request.url.host.startswith("evil"):
            await self.release.wait()
        return httpx2.Response(200, stream=Body())


class Body(httpx2.AsyncByteStream):
    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b"hello"


@pytest.fixture
def network() -> Network:
    return Network()


@pytest.fixture
async def client(network: Network) -> AsyncIterator[httpx2.AsyncClient]:
    timeout = httpx2.Timeout(5, pool=0.05)
    async with httpx2.AsyncClient(transport=HostLimits(network, per_host=2), timeout=timeout) as made:
        yield made


async def test_a_host_that_hangs_uses_up_its_own_connections_alone(
    network: Network, client: httpx2.AsyncClient
) -> None:
    hanging = [asyncio.create_task(client.get("https://evil.example")) for _ in range(2)]

    async def both_hang() -> bool:
        return len(network.calls) == 2

    await until(both_hang)
    with pytest.raises(httpx2.PoolTimeout):
        await client.get("https://evil.example")
    for _ in range(5):
        assert (await client.get("https://good.example")).text == "hello"
    network.release.set()
    await asyncio.gather(*hanging)
    assert (await client.get("https://evil.example")).text == "hello"


async def test_a_place_is_free_again_when_its_answer_is_closed_and_not_before(client: httpx2.AsyncClient) -> None:
    answers = [await client.send(client.build_request("GET", "https://a.example"), stream=True) for _ in range(2)]
    with pytest.raises(httpx2.PoolTimeout):
        await client.get("https://a.example")
    for answer in answers:
        await answer.aclose()
        await answer.aclose()
    for _ in range(3):
        await client.get("https://a.example")


async def test_a_call_that_is_given_up_leaves_its_place(network: Network, client: httpx2.AsyncClient) -> None:
    for _ in range(5):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await client.get("https://evil.example")
    assert len(network.calls) == 5


async def test_names_that_nobody_resolves_keep_no_other_name_waiting() -> None:
    released = threading.Event()

    def system(host: str, port: int) -> list[str]:
        if host.endswith("evil.example"):
            released.wait(20)
        return ["192.0.2.1"]

    resolver = Resolver(threads=4, per_domain=2, system=system)
    try:
        hanging = [asyncio.create_task(resolver(f"{number}.evil.example", 443)) for number in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(OSError, match=r"too many names below evil\.example"):
            await resolver("3.evil.example", 443)
        assert await resolver("good.example", 443) == ["192.0.2.1"]
        again = asyncio.create_task(resolver("1.evil.example", 443))
        released.set()
        assert await asyncio.gather(*hanging, again) == [["192.0.2.1"]] * 3
        assert await resolver("3.evil.example", 443) == ["192.0.2.1"]
    finally:
        released.set()
        resolver.close()


async def test_a_name_is_resolved_once_for_all_who_ask() -> None:
    lookups: list[str] = []

    def system(host: str, port: int) -> list[str]:
        lookups.append(f"{host}:{port}")
        return ["192.0.2.1"]

    resolver = Resolver(system=system)
    await asyncio.gather(*(resolver("Good.example.", 443) for _ in range(10)))
    await resolver("good.example", 443)
    assert lookups == ["good.example:443"]
    resolver.close()


@pytest.mark.parametrize(
    ("host", "owner"),
    [
        ("a.b.evil.example", "evil.example"),
        ("evil.example", "evil.example"),
        ("a.evil.co.uk", "evil.co.uk"),
        ("a.b.evil.com.br", "evil.com.br"),
        ("a.evil.social", "evil.social"),
        ("localhost", "localhost"),
        ("", ""),
    ],
)
def test_a_domains_owner_is_told_by_its_looks(host: str, owner: str) -> None:
    assert owner_of(host) == owner
