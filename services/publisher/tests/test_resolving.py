"""A person's word about a delivery."""

from __future__ import annotations

from collections import deque

import pytest
from regie_publisher.deliveries.timeline import RemoteUrlRefused, resolve_delivery
from regie_publisher.testing.desk import Desk
from regie_publisher.testing.network import Play


async def resolve(desk: Desk, remote_url: str) -> str:
    [row] = await desk.rows()
    async with desk.database.transaction() as session:
        delivery = await resolve_delivery(
            session,
            workspace_id=desk.workspace_id,
            delivery_id=row.id,
            request_id="1",
            published=True,
            remote_url=remote_url,
            now=desk.clock.now(),
        )
    assert delivery.remote is not None
    return delivery.remote.url


UNSAFE = ["javascript:alert(1)", "https://a.example/\u202egpj", "https://a.example/" + "x" * 2048]


@pytest.mark.parametrize("url", UNSAFE)
async def test_an_address_that_no_browser_should_open_is_refused(desk: Desk, url: str) -> None:
    desk.connector.script = deque([Play.LOST_AFTER])
    await desk.receive(desk.due(await desk.channel()))
    await desk.work()
    with pytest.raises(RemoteUrlRefused) as refused:
        await resolve(desk, url)
    assert (refused.value.http_status, refused.value.field) == (422, "remote_url")
    assert await desk.states() == ["unknown"]
    assert await resolve(desk, "https://a.example/1") == "https://a.example/1"
