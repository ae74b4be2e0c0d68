"""Profiles and segments, from JSON to message and back."""

from __future__ import annotations

import httpx2
from regie.audience.v1 import segments_service_pb2 as segments_pb
from regie_gateway.testing.harness import GatewayHarness


async def test_profiles_keep_their_attributes(world: GatewayHarness) -> None:
    attributes = {"city": "Lyon", "age": 34, "score": 0.5, "vip": True, "tags": ["a", "b"], "gone": None}
    async with world.client() as client:
        answer = await client.post(
            "/v1/profiles", json={"profiles": [{"external_id": "crm-17", "attributes": attributes}]}
        )
        assert answer.status_code == 200, answer.text
        profile = answer.json()["profiles"][0]
        assert profile["attributes"] == attributes
        assert (await client.get(f"/v1/profiles/{profile['profile_id']}")).json() == profile
        assert (await client.get("/v1/profiles")).json()["profiles"] == [profile]


async def test_a_segment_keeps_its_rule(world: GatewayHarness) -> None:
    rule = {
        "all": [
            {"attribute": "city", "operator": "eq", "value": "Lyon"},
            {"not": {"any": [{"attribute": "age", "operator": "lt", "value": 18}]}},
            {"attribute": "vip", "operator": "present"},
            {"attribute": "city", "operator": "in", "value": ["Lyon", "Nice"]},
            {"attribute": "tags", "operator": "eq", "value": []},
        ]
    }
    async with world.client() as client:
        created = await client.post("/v1/segments", json={"name": "Lyon", "rule": rule})
        assert created.status_code == 201, created.text
        segment = created.json()
        assert (segment["rule"], segment["state"]) == (rule, "active")
        path = created.headers["location"]
        assert (await client.get(path)).json() == segment
        assert (await client.get("/v1/segments")).json()["segments"] == [segment]
        assert (await client.get(f"{path}/members")).json() == {"profiles": [], "next_page_token": ""}
        preview = await client.post("/v1/segments/preview", json={"rule": rule, "sample_size": 2})
        warnings = [{"field": "/rule/all/1/not", "message": "odd"}]
        assert preview.json() == {"count": 0, "sample": [], "warnings": warnings}
    asked = world.backends.audience.memory.received[-1]
    assert isinstance(asked, segments_pb.PreviewSegmentRequest)
    assert asked.sample_size == 2


async def test_a_segment_is_deleted_by_its_id(world: GatewayHarness) -> None:
    rule = {"attribute": "city", "operator": "eq", "value": "Lyon"}
    async with world.client() as client:
        segment = (await client.post("/v1/segments", json={"name": "Lyon", "rule": rule})).json()
        answer = await client.delete(f"/v1/segments/{segment['segment_id']}")
    assert (answer.status_code, answer.json()) == (200, {"segment_id": segment["segment_id"]})
    received = world.backends.audience.memory.received[-1]
    assert isinstance(received, segments_pb.DeleteSegmentRequest)
    assert received.segment_id == segment["segment_id"]


async def test_the_groups_of_a_rule_count_as_conditions_and_the_refusal_says_so(world: GatewayHarness) -> None:
    comparison = {"attribute": "city", "operator": "present"}
    fifty = {"any": [comparison] * 50}
    async with world.client() as client:
        full = {"all": [fifty, {"any": [comparison] * 47}]}  # 97 comparisons and 3 groups
        assert (await client.post("/v1/segments/preview", json={"rule": full})).status_code == 200
        for rule in ({"all": [fifty, {"any": [comparison] * 48}]}, {"not": full}):
            refused = await client.post("/v1/segments/preview", json={"rule": rule})
            assert refused.status_code == 422
            assert "at most 100 conditions, with each all, any and not counted as one" in refused.text
        refused = await client.post("/v1/segments/preview", json={"rule": {"all": [comparison] * 51}})
        assert (refused.status_code, "give at most 50 entries" in refused.text) == (422, True)
        refused = await client.post("/v1/segments/preview", json={"rule": {"all": []}})
        assert (refused.status_code, "give at least 1 entry" in refused.text) == (422, True)


async def test_an_in_takes_one_to_a_hundred_texts(world: GatewayHarness) -> None:
    async def preview(texts: list[str]) -> httpx2.Response:
        listed = {"attribute": "city", "operator": "in", "value": texts}
        return await client.post("/v1/segments/preview", json={"rule": {"any": [listed]}})

    async with world.client() as client:
        assert (await preview(["x"] * 100)).status_code == 200
        for texts, message in (([], "in takes a list of at least one text"), (["x"] * 101, "at most 100 entries")):
            refused = await preview(texts)
            assert (refused.status_code, refused.json()["field"]) == (422, "/rule/any/0/value")
            assert message in refused.text


async def test_the_document_states_the_bounds_of_a_rule(world: GatewayHarness) -> None:
    async with world.client() as client:
        schemas = (await client.get("/openapi.json")).json()["components"]["schemas"]
    for name in ("CreateSegment", "PreviewSegment"):
        described = schemas[name]["properties"]["rule"]["description"]
        for words in ("10 levels deep", "100 conditions", "up to 50", "up to 100 texts"):
            assert words in described
    assert "a list of 1 to 100 texts" in schemas["ComparisonRule"]["properties"]["operator"]["description"]
