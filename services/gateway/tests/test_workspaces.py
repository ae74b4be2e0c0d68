"""The workspace of a key, shown and changed."""

from __future__ import annotations

from datetime import timedelta

from regie_gateway.access.bootstrap import bootstrap
from regie_gateway.testing.harness import GatewayHarness
from regie_local.testing.clock import FakeClock
from sqlalchemy import text


async def test_the_workspace_is_shown_and_changed(world: GatewayHarness, clock: FakeClock) -> None:
    async with world.client() as client:
        assert (await client.get("/v1/workspace")).json()["missed_after_seconds"] == 600
        changed = await client.patch("/v1/workspace", json={"missed_after_seconds": 900})
        assert (changed.json()["name"], changed.json()["missed_after_seconds"]) == ("first", 900)
        time = changed.json()["update_time"]
        assert time.endswith("Z")
        await clock.advance(timedelta(seconds=1))
        for nothing in ({}, {"missed_after_seconds": 900}, {"name": "first", "missed_after_seconds": 900.0}):
            assert (await client.patch("/v1/workspace", json=nothing)).json() == changed.json()
    async with world.database.reading() as session:
        updates = await session.execute(text("SELECT count(*) FROM outbox WHERE type LIKE '%WorkspaceUpdated'"))
    assert updates.scalar_one() == 2


async def test_a_name_tells_nobody_which_other_workspaces_exist(world: GatewayHarness) -> None:
    second = await world.workspace("second")
    async with world.client() as client:
        assert (await client.patch("/v1/workspace", json={"name": "second"})).status_code == 200
    # The operator's command still finds the workspace that it made under the name.
    again = await bootstrap(world.database, world.clock, name="second", new_key=True)
    async with world.client(second) as stranger, world.client(again.api_key) as operator:
        own = (await stranger.get("/v1/workspace")).json()
        assert (await operator.get("/v1/workspace")).json() == own
