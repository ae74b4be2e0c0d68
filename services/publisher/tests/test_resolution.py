"""A person's word about a delivery."""

from __future__ import annotations

from collections import deque

import pytest
from regie_publisher.deliveries.resolution import RemoteUrlRefused
from regie_publisher.testing.harness import PublisherHarness
from regie_publisher.testing.network import Play

UNSAFE = [
    " ",
    "\t\n",
    "\u200b",
    "javascript:alert(1)",
    "https://a.example/\u202egpj",
    "https://a.example/" + "x" * 2048,
]
NO_POST = ["https://a.example/1", "https://fake.example/2", "https://fake.example/" + "\u6f22" * 800]


@pytest.mark.parametrize("url", [*UNSAFE, *NO_POST])
async def test_an_address_that_is_not_the_posts_is_refused(harness: PublisherHarness, url: str) -> None:
    harness.connector.script = deque([Play.LOST_AFTER])
    await harness.receive(harness.due(await harness.channel()))
    await harness.work()
    with pytest.raises(RemoteUrlRefused) as refused:
        await harness.resolve(published=True, remote_url=url)
    assert (refused.value.http_status, refused.value.field) == (422, "remote_url")
    assert await harness.states() == ["unknown"]
    settled = await harness.resolve(published=True, remote_url="https://fake.example/1")
    assert settled.remote is not None
    assert settled.remote.url == "https://fake.example/1"
