"""A POST with an Idempotency-Key has one effect and one answer."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from regie.ids.v1.prefixes import CHANNEL
from regie_chassis.boundary.ids import new_id, show_id
from regie_gateway.access import idempotency
from regie_gateway.access.api_keys import SCOPES
from regie_gateway.testing.harness import GatewayHarness
from regie_local.testing.clock import FakeClock
from regie_local.testing.waiting import until
from sqlalchemy import text

POST = {"title": "t", "variants": [{"channel_id": show_id(CHANNEL, new_id()), "text": "x"}]}
KEY = {"Idempotency-Key": "4b4b-one"}


async def test_the_same_request_gets_the_same_answer(world: GatewayHarness) -> None:
    async with world.client() as client:
        first = await client.post("/v1/posts", json=POST, headers=KEY)
        second = await client.post("/v1/posts", json=POST, headers=KEY)
    assert (second.status_code, second.content) == (201, first.content)
    assert second.headers["location"] == first.headers["location"]
    assert second.headers["idempotent-replayed"] == "true"
    assert "idempotent-replayed" not in first.headers
    assert world.backends.scheduler.memory.effects == 1
    assert len(world.backends.scheduler.memory.received) == 1


async def test_an_error_of_the_callers_own_is_replayed_too(world: GatewayHarness) -> None:
    at = {"local_time": "2030-06-01T09:30:00", "time_zone": "Mars"}
    async with world.client() as client:
        first = await client.post("/v1/posts", json={**POST, "publish_at": at}, headers=KEY)
        second = await client.post("/v1/posts", json={**POST, "publish_at": at}, headers=KEY)
    assert (second.status_code, second.content) == (400, first.content)
    assert second.headers["content-type"] == "application/problem+json"
    assert len(world.backends.scheduler.memory.received) == 1


@pytest.mark.parametrize("path", ["/v1/posts", "/v1/segments"])
async def test_another_request_with_the_same_key_is_refused(world: GatewayHarness, path: str) -> None:
    async with world.client() as client:
        await client.post("/v1/posts", json=POST, headers=KEY)
        answer = await client.post(path, json={**POST, "title": "u"}, headers=KEY)
    assert (answer.status_code, answer.json()["reason"]) == (422, "IDEMPOTENCY_KEY_REUSED")
    assert world.backends.scheduler.memory.effects == 1


async def test_the_same_key_in_another_workspace_is_another_key(world: GatewayHarness) -> None:
    async with world.client() as client, world.client(await world.workspace("second")) as other:
        first = await client.post("/v1/posts", json=POST, headers=KEY)
        second = await other.post("/v1/posts", json=POST, headers=KEY)
    assert first.json()["post_id"] != second.json()["post_id"]


async def test_ten_at_once_have_one_effect(world: GatewayHarness) -> None:
    async with world.client() as client:
        answers = await asyncio.gather(*(client.post("/v1/posts", json=POST, headers=KEY) for _ in range(10)))
    assert {answer.status_code for answer in answers} <= {201, 409}
    assert len({answer.content for answer in answers if answer.status_code == 201}) == 1
    assert world.backends.scheduler.memory.effects == 1


async def test_while_the_first_is_at_work_the_second_is_told_to_wait(world: GatewayHarness) -> None:
    memory = world.backends.scheduler.memory
    memory.hold = asyncio.Event()
    async with world.client() as client:
        first = asyncio.create_task(client.post("/v1/posts", json=POST, headers=KEY))
        await until(lambda: _true(bool(memory.received)), what="the first call")
        second = await client.post("/v1/posts", json=POST, headers=KEY)
        assert (second.status_code, second.json()["reason"]) == (409, "IDEMPOTENCY_IN_FLIGHT")
        assert second.headers["retry-after"] == "1"
        lease = idempotency.LEASE.total_seconds()
        assert f"the key is free again within {lease:.0f} seconds" in second.json()["detail"]
        memory.hold.set()
        assert (await first).status_code == 201


async def _true(value: bool) -> bool:
    return value


async def test_a_claim_whose_holder_crashed_is_taken_over_without_a_second_effect(
    world: GatewayHarness, clock: FakeClock
) -> None:
    async with world.client() as client:
        first = await client.post("/v1/posts", json=POST, headers=KEY)
        await _as_if_crashed(world)
        early = await client.post("/v1/posts", json=POST, headers=KEY)
        assert early.status_code == 409
        await clock.advance(idempotency.LEASE + timedelta(seconds=1))
        other = await client.post("/v1/posts", json={**POST, "title": "u"}, headers=KEY)
        assert other.status_code == 422
        late = await client.post("/v1/posts", json=POST, headers=KEY)
    assert (late.status_code, late.json()) == (201, first.json())
    assert world.backends.scheduler.memory.effects == 1
    assert len(world.backends.scheduler.memory.received) == 2


async def _as_if_crashed(world: GatewayHarness) -> None:
    async with world.database.transaction() as session:
        await session.execute(text("UPDATE idempotency_key SET state = 'in_flight'"))


async def test_a_lost_answer_can_be_asked_for_again(world: GatewayHarness) -> None:
    world.backends.scheduler.memory.lose_answers = 1
    async with world.client() as client:
        lost = await client.post("/v1/posts", json=POST, headers=KEY)
        assert lost.status_code == 503
        other = await client.post("/v1/posts", json={**POST, "title": "u"}, headers=KEY)
        assert other.json()["reason"] == "IDEMPOTENCY_KEY_REUSED"
        again = await client.post("/v1/posts", json=POST, headers=KEY)
    assert again.status_code == 201
    assert world.backends.scheduler.memory.effects == 1


async def test_who_was_overtaken_does_not_replace_the_answer(world: GatewayHarness) -> None:
    async with world.client() as client:
        first = await client.post("/v1/posts", json=POST, headers=KEY)
    async with world.database.transaction() as session:
        workspace_id = (await session.execute(text("SELECT workspace_id FROM idempotency_key"))).scalar_one()
        late = idempotency.Claim(workspace_id, KEY["Idempotency-Key"], new_id())
        await idempotency.keep_answer(session, late, idempotency.Answer(500, {}, b"late"))
        await idempotency.release(session, late)
        await idempotency.forget(session, late)
    async with world.client() as client:
        assert (await client.post("/v1/posts", json=POST, headers=KEY)).content == first.content


async def test_a_body_that_was_refused_frees_its_key(world: GatewayHarness) -> None:
    async with world.client() as client:
        assert (await client.post("/v1/posts", json={"title": 7}, headers=KEY)).status_code == 422
        assert (await client.post("/v1/posts", json=POST, headers=KEY)).status_code == 201


async def test_after_a_day_a_key_is_new(world: GatewayHarness, clock: FakeClock) -> None:
    async with world.client() as client:
        await client.post("/v1/posts", json=POST, headers=KEY)
        await clock.advance(idempotency.KEEP + timedelta(seconds=1))
        again = await client.post("/v1/posts", json={**POST, "title": "u"}, headers=KEY)
    assert (again.status_code, world.backends.scheduler.memory.effects) == (201, 2)


@pytest.mark.parametrize("key", ["", "a b", "x" * 256, "é", "a\tb"])
async def test_a_key_of_another_form_is_refused(world: GatewayHarness, key: str) -> None:
    async with world.client() as client:
        answer = await client.post("/v1/posts", json=POST, headers=[(b"Idempotency-Key", key.encode())])
    assert (answer.status_code, answer.json()["reason"]) == (400, "INVALID_IDEMPOTENCY_KEY")


async def test_without_a_key_every_request_counts(world: GatewayHarness) -> None:
    async with world.client() as client:
        await client.post("/v1/posts", json=POST)
        await client.post("/v1/posts", json=POST)
    assert world.backends.scheduler.memory.effects == 2


async def test_the_secret_of_a_new_key_is_neither_stored_nor_replayed(world: GatewayHarness) -> None:
    body = {"name": "n", "scopes": list(SCOPES)}
    async with world.client() as client:
        first = (await client.post("/v1/api-keys", json=body, headers=KEY)).json()
        second = (await client.post("/v1/api-keys", json=body, headers=KEY)).json()
    assert first["api_key"].startswith("regie_")
    assert second == {**first, "api_key": None}
    async with world.database.reading() as session:
        rows = (await session.execute(text("SELECT CAST(x AS text) FROM idempotency_key AS x"))).scalars().all()
        keys = (await session.execute(text("SELECT count(*) FROM api_key"))).scalar_one()
    secret = first["api_key"].rsplit("_", 1)[1]
    assert all(secret not in row and secret.encode().hex() not in row for row in rows)
    assert keys == 2
