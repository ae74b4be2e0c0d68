"""The OpenAPI document is the product: answers match it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, Verbosity, given, settings
from hypothesis import strategies as st
from regie.ids.v1.prefixes import DELIVERY
from regie.publisher.v1 import deliveries_service_pb2 as publisher_pb
from regie_chassis.boundary.ids import new_id, show_id
from regie_chassis.process.clock import SystemClock
from regie_gateway.testing.harness import GatewayHarness, MakeHarness
from schemathesis.checks import CHECKS, load_all_checks
from schemathesis.core.result import Ok

EXAMPLES = 30  # for each operation
CHECKED = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
)


def operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [(path, method, one) for path, methods in document["paths"].items() for method, one in methods.items()]


async def test_every_operation_is_described(world: GatewayHarness) -> None:
    async with world.client("") as client:
        document = (await client.get("/openapi.json")).json()
    assert document["openapi"].startswith("3.1")
    found = operations(document)
    ids = [one["operationId"] for _, _, one in found]
    assert len(ids) == len(set(ids))
    assert all(tag["description"] for tag in document["tags"])
    assert {tag["name"] for tag in document["tags"]} == {tag for _, _, one in found for tag in one["tags"]}
    for path, method, one in found:
        assert one["summary"], path
        assert one["tags"], path
        assert one["security"], path
        for status, answer in one["responses"].items():
            if status >= "400":
                schema = answer["content"]["application/problem+json"]["schema"]
                assert schema == {"$ref": "#/components/schemas/Problem"}, (path, status)
        named = {parameter["name"] for parameter in one.get("parameters", ())}
        assert ("Idempotency-Key" in named) == (method == "post"), path
    assert "HTTPValidationError" not in document["components"]["schemas"]


async def test_a_body_in_an_encoding_is_refused_as_documented_by_every_operation_that_could_have_one(
    world: GatewayHarness,
) -> None:
    async with world.client() as client:
        document = (await client.get("/openapi.json")).json()
        for path, method, one in operations(document):
            if method == "get":
                continue
            answer = await client.request(method, path, content=b"x", headers={"Content-Encoding": "gzip"})
            assert (answer.status_code, {"413", "415"} - set(one["responses"])) == (415, set()), (method, path)


async def test_an_unreachable_network_is_documented_as_it_is_answered(world: GatewayHarness) -> None:
    async with world.client("") as client:
        document = (await client.get("/openapi.json")).json()
    statuses = set(document["paths"]["/v1/channels"]["post"]["responses"])
    assert {"422", "429", "503"} <= statuses
    assert "502" not in {status for _, _, one in operations(document) for status in one["responses"]}


async def test_the_example_of_a_bluesky_channel_names_its_credentials(world: GatewayHarness) -> None:
    async with world.client("") as client:
        schema = (await client.get("/openapi.json")).json()["components"]["schemas"]["ConnectChannel"]
    (example,) = schema["examples"]
    assert (example["network"], set(example["credentials"])) == ("bluesky", {"identifier", "app_password"})
    assert "GET /v1/networks" in schema["properties"]["credentials"]["description"]


# The gateway under test runs in this very process and draws its ids meanwhile, which hypothesis takes for a strategy's.
@pytest.mark.filterwarnings("ignore:Do not use the `random` module:hypothesis.errors.HypothesisDeprecationWarning")
async def test_no_input_that_the_document_allows_or_forbids_breaks_the_gateway(make_world: MakeHarness) -> None:
    world = await make_world(SystemClock())
    async with world.gateway.app:
        known = await things(world)
        document = world.gateway.application.openapi()
        target = Target(world.gateway.http.url, world.token, known)
        await asyncio.to_thread(fuzz, document, target)
    # A run that never gets past the door would prove nothing.
    assert target.answered_well == {one["operationId"] for _, _, one in operations(document)} - {"stream_events"}


async def things(world: GatewayHarness) -> dict[str, str]:
    """Makes one thing of each kind and returns their ids by the names of the path's parameters."""
    rule = {"attribute": "city", "operator": "eq", "value": "Lyon"}
    channel = {"network": "sandbox", "credentials": {"access_token": "x"}}
    async with world.client() as client:
        channel_id = (await client.post("/v1/channels", json=channel)).json()["channel_id"]
        variants = [{"channel_id": channel_id, "text": "x"}]
        post_id = (await client.post("/v1/posts", json={"title": "t", "variants": variants})).json()["post_id"]
        profiles = await client.post("/v1/profiles", json={"profiles": [{"external_id": "x"}]})
        segment = await client.post("/v1/segments", json={"name": "n", "rule": rule})
        key = await client.post("/v1/api-keys", json={"name": "n", "scopes": ["posts:read"]})
    delivery_id = show_id(DELIVERY, new_id())
    delivery = publisher_pb.Delivery(delivery_id=delivery_id, post_id=post_id, channel_id=channel_id)
    world.backends.publisher.deliveries[post_id] = [delivery]
    return {
        "channel_id": channel_id,
        "post_id": post_id,
        "delivery_id": delivery_id,
        "profile_id": profiles.json()["profiles"][0]["profile_id"],
        "segment_id": segment.json()["segment_id"],
        "api_key_id": key.json()["api_key_id"],
    }


@dataclass(slots=True)
class Target:
    """The address of the gateway, and the operations that have answered with success."""

    url: str
    token: str
    known: dict[str, str]
    answered_well: set[str] = field(default_factory=set)


def fuzz(document: dict[str, Any], target: Target) -> None:
    load_all_checks()
    schema = schemathesis.openapi.from_dict(document)
    for result in schema.get_all_operations():
        assert isinstance(result, Ok), result
        operation = result.ok()
        if operation.path != "/v1/events":  # does not end by itself; test_stream has it
            fuzz_operation(operation, target)


def fuzz_operation(operation: Any, target: Target) -> None:
    checks = CHECKS.get_by_names(list(CHECKED))
    modes = schemathesis.GenerationMode
    cases = operation.as_strategy(generation_mode=modes.POSITIVE) | operation.as_strategy(
        generation_mode=modes.NEGATIVE
    )

    @given(case=cases, existing=st.booleans())
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        verbosity=Verbosity.quiet,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def run(case: Any, existing: bool) -> None:
        if existing and case.path_parameters:
            case.path_parameters = {name: target.known[name] for name in case.path_parameters}
            if case.headers:
                case.headers.pop("If-Match", None)  # a revision that is made up never gets past the door
        response = case.call(base_url=target.url, headers={"Authorization": f"Bearer {target.token}"}, timeout=20)
        case.validate_response(response, checks=checks)
        if response.status_code < 300:
            target.answered_well.add(operation.definition.raw["operationId"])

    run()


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
async def test_no_page_loads_scripts_from_elsewhere(world: GatewayHarness, path: str) -> None:
    async with world.client() as client:
        assert (await client.get(path)).status_code == 404
