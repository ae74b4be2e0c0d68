"""Probes and answers while a service or the database is away."""

from __future__ import annotations

from regie_gateway.testing.harness import GatewayHarness, MakeHarness
from regie_local.testing.clock import FakeClock


async def test_a_service_that_does_not_answer_is_a_problem_to_try_again(world: GatewayHarness) -> None:
    world.backends.scheduler.memory.down = True
    async with world.client() as client:
        answer = await client.get("/v1/posts")
    assert (answer.status_code, answer.json()["reason"]) == (503, "SERVICE_UNAVAILABLE")
    assert answer.headers["retry-after"] == "1"


async def test_the_probes_answer_without_a_key(world: GatewayHarness) -> None:
    async with world.client("") as client:
        assert (await client.get("/healthz")).status_code == 200
        assert (await client.get("/readyz")).status_code == 200


async def test_without_its_database_it_says_so_and_stays_alive(make_world: MakeHarness, clock: FakeClock) -> None:
    world = await make_world(clock, database_url="postgresql+asyncpg://nobody:x@127.0.0.1:9/nothing")
    async with world.client() as client:
        answer = await client.get("/v1/workspace")
        assert (answer.status_code, answer.json()["reason"]) == (503, "SERVICE_UNAVAILABLE")
        ready = await client.get("/readyz")
        assert (ready.status_code, ready.json()["reason"]) == (503, "NOT_READY")
        assert (await client.get("/healthz")).status_code == 200
