"""A person's word about a delivery."""

from __future__ import annotations

from collections import deque

import pytest
from regie_publisher.deliveries.resolving import RemoteUrlRefused
from regie_publisher.testing.desk import Desk
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
async def test_an_address_that_is_not_the_posts_is_refused(desk: Desk, url: str) -> None:
    desk.connector.script = deque([Play.LOST_AFTER])
    await desk.receive(desk.due(await desk.channel()))
    await desk.work()
    with pytest.raises(RemoteUrlRefused) as refused:
        await desk.resolve(published=True, remote_url=url)
    assert (refused.value.http_status, refused.value.field) == (422, "remote_url")
    assert await desk.states() == ["unknown"]
    settled = await desk.resolve(published=True, remote_url="https://fake.example/1")
    assert settled.remote is not None
    assert settled.remote.url == "https://fake.example/1"
