"""Keys: their rights, their limits, and their end."""

from __future__ import annotations

import inspect
from datetime import timedelta
from typing import get_args

import pytest
from regie.gateway.events.v1.gateway_events_pb2 import ApiKeyCreated, ApiKeyRevoked
from regie_chassis.boundary.ids import new_id
from regie_gateway.access import api_keys, authentication
from regie_gateway.access.bootstrap import bootstrap
from regie_gateway.resources.account import api_keys as api_key_resource
from regie_gateway.resources.catalogue import RESOURCES
from regie_gateway.testing.harness import GatewayHarness, MakeHarness
from regie_local.testing.clock import FakeClock
from sqlalchemy import text


@pytest.mark.parametrize("authorization", [None, "", "Basic eDp5", "regie_x_y"])
async def test_without_a_key_there_is_a_challenge(world: GatewayHarness, authorization: str | None) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}
    async with world.client("") as client:
        answer = await client.get("/v1/posts", headers=headers)
    assert (answer.status_code, answer.json()["reason"]) == (401, "MISSING_API_KEY")
    assert answer.headers["www-authenticate"] == 'Bearer realm="regie"'


def wrong_tokens(token: str) -> list[str]:
    mark, key, secret = token.split("_")
    stranger = api_keys.show_token(new_id(), secret)
    wrong_secret = "0" * 64 if secret[0] != "0" else "1" * 64
    return ["x", "regie__", f"{mark}_{key}_", f"{mark}_{key}_{wrong_secret}", stranger, f"{token}_", "x" * 5000]


async def test_a_wrong_key_opens_nothing(world: GatewayHarness) -> None:
    async with world.client() as client:
        for token in wrong_tokens(world.token):
            answer = await client.get("/v1/workspace", headers={"Authorization": f"Bearer {token}"})
            assert (answer.status_code, answer.json()["reason"]) == (401, "INVALID_API_KEY"), token
            assert 'error="invalid_token"' in answer.headers["www-authenticate"]


async def test_a_missing_scope_is_named(world: GatewayHarness) -> None:
    async with world.client(await world.key("posts:read")) as client:
        assert (await client.get("/v1/posts")).status_code == 200
        answer = await client.post("/v1/posts", json={})
    assert (answer.status_code, answer.json()["reason"]) == (403, "MISSING_SCOPE")
    assert "posts:write" in answer.json()["detail"]


async def test_every_operation_asks_for_a_scope_that_exists(world: GatewayHarness) -> None:
    everything = [operation for resource in RESOURCES for operation in resource.all]
    without = {operation.id for operation in everything if operation.scope is None}
    assert without == {"get_workspace"}
    assert {operation.scope for operation in everything} - {None} == set(api_keys.SCOPES)
    assert get_args(api_key_resource.Scope) == api_keys.SCOPES
    assert all(inspect.iscoroutinefunction(operation.endpoint) for operation in everything)


async def test_a_key_hands_out_no_more_than_it_holds(world: GatewayHarness) -> None:
    async with world.client(await world.key("keys:manage", "posts:read")) as client:
        more = await client.post("/v1/api-keys", json={"name": "n", "scopes": ["posts:read", "posts:write"]})
        assert (more.status_code, more.json()["reason"]) == (403, "SCOPE_NOT_HELD")
        less = await client.post("/v1/api-keys", json={"name": "n", "scopes": ["posts:read"]})
    async with world.client(less.json()["api_key"]) as made:
        assert (await made.get("/v1/posts")).status_code == 200


async def test_a_revoked_key_opens_nothing_and_both_facts_are_said(world: GatewayHarness) -> None:
    async with world.client() as client:
        made = (await client.post("/v1/api-keys", json={"name": "n", "scopes": ["posts:read"]})).json()
        async with world.client(made["api_key"]) as other:
            assert (await other.get("/v1/posts")).status_code == 200
            assert (await client.delete(f"/v1/api-keys/{made['api_key_id']}")).status_code == 204
            assert (await client.delete(f"/v1/api-keys/{made['api_key_id']}")).status_code == 204
            assert (await other.get("/v1/posts")).status_code == 401
    async with world.database.reading() as session:
        rows = await session.execute(text("SELECT type, payload FROM outbox ORDER BY id"))
        said = [(row.type.rsplit(".", 1)[1], row.payload) for row in rows]
    assert [name for name, _ in said] == ["WorkspaceUpdated", "ApiKeyCreated", "ApiKeyCreated", "ApiKeyRevoked"]
    assert ApiKeyCreated.FromString(said[2][1]).scopes == ["posts:read"]
    assert ApiKeyRevoked.FromString(said[3][1]).api_key_id == made["api_key_id"]


async def test_a_key_revoked_by_another_replica_is_honoured_for_five_seconds_at_most(
    world: GatewayHarness, clock: FakeClock
) -> None:
    async with world.client() as client:
        assert (await client.get("/v1/workspace")).status_code == 200
        async with world.database.transaction() as session:
            await session.execute(text("UPDATE api_key SET revoke_time = now()"))
        await clock.advance(authentication.LAST)
        assert (await client.get("/v1/workspace")).status_code == 401
    assert timedelta(seconds=5) >= authentication.LAST


async def test_another_workspaces_key_cannot_be_revoked(world: GatewayHarness) -> None:
    async with world.client() as client, world.client(await world.workspace("second")) as other:
        key = (await client.get("/v1/api-keys")).json()["api_keys"][0]
        answer = await other.delete(f"/v1/api-keys/{key['api_key_id']}")
        assert (answer.status_code, answer.json()["reason"]) == (404, "API_KEY_NOT_FOUND")
        assert (await client.get("/v1/workspace")).status_code == 200


async def test_keys_are_listed_page_by_page_without_secrets(world: GatewayHarness) -> None:
    async with world.client() as client:
        for _ in range(4):
            await client.post("/v1/api-keys", json={"name": "n", "scopes": ["posts:read"]})
        seen: list[str] = []
        token = ""
        while True:
            page = (await client.get("/v1/api-keys", params={"page_size": 2, "page_token": token})).json()
            seen += [key["api_key_id"] for key in page["api_keys"]]
            assert all("api_key" not in key and "secret_hash" not in key for key in page["api_keys"])
            token = page["next_page_token"]
            if not token:
                break
    assert len(seen) == len(set(seen)) == 5
    assert seen == sorted(seen, reverse=True)


async def test_the_use_of_a_key_is_noted(world: GatewayHarness) -> None:
    async with world.client() as client:
        assert (await client.get("/v1/api-keys")).json()["api_keys"][0]["last_used_time"] is None
        await world.gateway.authenticator.write_use()
        assert (await client.get("/v1/api-keys")).json()["api_keys"][0]["last_used_time"] is not None


async def test_bootstrap_makes_a_workspace_once(world: GatewayHarness) -> None:
    again = await bootstrap(world.database, world.clock, name="first", new_key=False)
    assert (again.created, again.api_key) == (False, None)
    more = await bootstrap(world.database, world.clock, name="first", new_key=True)
    assert not more.created
    assert more.api_key not in {None, world.token}
    async with world.client(more.api_key) as client:
        assert (await client.get("/v1/workspace")).json()["name"] == "first"


async def test_a_key_that_calls_too_often_is_told_when_to_come_back(make_world: MakeHarness, clock: FakeClock) -> None:
    world = await make_world(clock, rate_per_second=2, rate_burst=3)
    async with world.client() as client:
        answers = [await client.get("/v1/workspace") for _ in range(4)]
        assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
        refused = answers[-1]
        assert refused.json()["reason"] == "RATE_LIMITED"
        assert refused.headers["retry-after"] == "1"
        assert refused.headers["ratelimit"] == '"key";r=0;t=1'
        assert refused.headers["ratelimit-policy"] == '"key";q=3;w=2'
        await clock.advance(timedelta(seconds=1))
        assert [(await client.get("/v1/workspace")).status_code for _ in range(3)] == [200, 200, 429]


async def test_the_keys_of_a_workspace_share_a_limit(make_world: MakeHarness, clock: FakeClock) -> None:
    world = await make_world(clock, workspace_rate_per_second=2, workspace_rate_burst=3)
    other, stranger = await world.key("posts:read"), await world.workspace("second")
    async with world.client() as client, world.client(other) as second, world.client(stranger) as third:
        answers = [await one.get("/v1/workspace") for one in (client, second, client, second, third)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429, 200]
    assert answers[3].headers["ratelimit-policy"] == '"workspace";q=3;w=2'


async def test_a_key_ends_when_it_expires_and_nothing_it_makes_lives_longer(
    world: GatewayHarness, clock: FakeClock
) -> None:
    def at(hours: int) -> str:
        return str((clock.now() + timedelta(hours=hours)).strftime("%Y-%m-%dT%H:%M:%SZ"))

    body = {"name": "n", "scopes": ["posts:read", "keys:manage"]}
    async with world.client() as client:
        past = await client.post("/v1/api-keys", json={**body, "expire_time": at(-1)})
        assert (past.status_code, past.json()["reason"]) == (422, "INVALID_EXPIRE_TIME")
        assert past.json()["field"] == "/expire_time"
        end = at(2)
        made = (await client.post("/v1/api-keys", json={**body, "expire_time": end})).json()
        assert made["expire_time"] == end
    async with world.client(made["api_key"]) as parent:
        late = await parent.post("/v1/api-keys", json={**body, "expire_time": at(3)})
        assert (late.status_code, late.json()["reason"]) == (422, "INVALID_EXPIRE_TIME")
        child = (await parent.post("/v1/api-keys", json=body)).json()
        assert (child["expire_time"], child["parent_api_key_id"]) == (end, made["api_key_id"])
        await clock.advance(timedelta(hours=2) - timedelta(seconds=1))
        assert (await parent.get("/v1/posts")).status_code == 200
        await clock.advance(timedelta(seconds=1))
        assert (await parent.get("/v1/posts")).status_code == 401
    async with world.client(child["api_key"]) as gone:
        assert (await gone.get("/v1/posts")).json()["reason"] == "INVALID_API_KEY"


async def test_the_last_key_that_manages_keys_stays(world: GatewayHarness) -> None:
    async with world.client() as client:
        (own,) = (await client.get("/v1/api-keys")).json()["api_keys"]
        for query in ("", "?descendants=true"):
            answer = await client.delete(f"/v1/api-keys/{own['api_key_id']}{query}")
            assert (answer.status_code, answer.json()["reason"]) == (409, "LAST_MANAGING_KEY")
        other = (await client.post("/v1/api-keys", json={"name": "n", "scopes": ["keys:manage"]})).json()
        # One key is replaced by another of its own making.
        assert (await client.delete(f"/v1/api-keys/{own['api_key_id']}")).status_code == 204
        assert (await client.get("/v1/workspace")).status_code == 401
    async with world.client(other["api_key"]) as heir:
        assert (await heir.get("/v1/api-keys")).status_code == 200
        answer = await heir.delete(f"/v1/api-keys/{other['api_key_id']}")
        assert (answer.status_code, answer.json()["reason"]) == (409, "LAST_MANAGING_KEY")


async def test_all_that_a_leaked_key_made_ends_with_it_when_asked_for(world: GatewayHarness) -> None:
    body = {"name": "n", "scopes": ["keys:manage"]}
    async with world.client() as client:
        leaked = (await client.post("/v1/api-keys", json=body)).json()
        async with world.client(leaked["api_key"]) as thief:
            child = (await thief.post("/v1/api-keys", json=body)).json()
        async with world.client(child["api_key"]) as thief:
            grandchild = (await thief.post("/v1/api-keys", json=body)).json()
        assert (await client.delete(f"/v1/api-keys/{leaked['api_key_id']}?descendants=true")).status_code == 204
        for key in (leaked, child, grandchild):
            async with world.client(key["api_key"]) as thief:
                assert (await thief.get("/v1/workspace")).status_code == 401
        keys = (await client.get("/v1/api-keys")).json()["api_keys"]
    assert [key["revoke_time"] is None for key in keys] == [False, False, False, True]


async def test_a_workspace_has_a_bounded_number_of_valid_keys(world: GatewayHarness) -> None:
    read = api_keys.read_token(world.token)
    assert read is not None
    body = {"name": "n", "scopes": ["posts:read"]}
    async with world.client() as client:
        spare = (await client.post("/v1/api-keys", json=body)).json()
        async with world.database.transaction() as session:
            await session.execute(
                text(
                    "INSERT INTO api_key (id, workspace_id, request_id, name, secret_hash, scopes, create_time)"
                    " SELECT gen_random_uuid(), key.workspace_id, gen_random_uuid(), 'n', '', '{}', now()"
                    " FROM api_key AS key, generate_series(3, :most) WHERE key.id = :id"
                ),
                {"id": read[0], "most": api_keys.MAX_KEYS},
            )
        refused = await client.post("/v1/api-keys", json=body)
        assert (refused.status_code, refused.json()["reason"]) == (409, "TOO_MANY_API_KEYS")
        assert (await client.delete(f"/v1/api-keys/{spare['api_key_id']}")).status_code == 204
        assert (await client.post("/v1/api-keys", json=body)).status_code == 201
