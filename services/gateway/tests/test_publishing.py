"""Networks, channels, media and deliveries, from JSON to message and back."""

from __future__ import annotations

from google.protobuf.timestamp_pb2 import Timestamp
from regie.ids.v1.prefixes import DELIVERY
from regie.publisher.v1 import channels_service_pb2 as channels_pb
from regie.publisher.v1 import deliveries_service_pb2 as deliveries_pb
from regie.publisher.v1 import networks_service_pb2 as networks_pb
from regie_chassis.boundary.ids import new_id, show_id
from regie_gateway.mapping.compiled import compile_view
from regie_gateway.resources.publishing.channels import ChannelView
from regie_gateway.testing.harness import GatewayHarness


async def test_the_day_of_a_page_that_is_not_on_the_web_is_left_out(world: GatewayHarness) -> None:
    limit = networks_pb.ContentLimit(maximum=300, unit="graphemes", source_date="2026-11-23")
    rule = networks_pb.MediaRule(kind="image", content_types=["image/*"], source_date="2026-11-23")
    world.backends.networks.networks = [
        networks_pb.Network(
            name="example",
            server_address="none",
            text_limits=[limit],
            alt_text_limit=limit,
            media_rules=[rule],
            once="none",
        )
    ]
    async with world.client() as client:
        (shown,) = (await client.get("/v1/networks")).json()["networks"]
    for stated in (*shown["text_limits"], *shown["media_rules"], shown["alt_text_limit"]):
        assert (stated["source_url"], stated["source_date"]) == (None, None)


async def test_a_network_is_shown_with_its_credentials_and_limits(world: GatewayHarness) -> None:
    source = {"source_url": "https://network.example/limits", "source_date": "2026-11-23"}
    world.backends.networks.networks = [
        networks_pb.Network(
            name="example",
            title="Example",
            documentation_url="https://network.example",
            server_address="optional",
            main_server="https://network.example",
            credentials=[networks_pb.CredentialField(name="token", label="Token", help="Ask.", secret=True)],
            formats=["text", "image"],
            visibilities=["public"],
            text_limits=[networks_pb.ContentLimit(maximum=300, unit="graphemes", **source)],
            max_attachments=4,
            media_rules=[
                networks_pb.MediaRule(
                    kind="image",
                    content_types=["image/*"],
                    max_bytes=9,
                    source_url=source["source_url"],
                    source_date=source["source_date"],
                )
            ],
            metrics=["likes"],
            account_metrics=["followers"],
            verbs=["publish"],
            once="own_key",
        )
    ]
    async with world.client() as client:
        (shown,) = (await client.get("/v1/networks")).json()["networks"]
    assert shown == {
        "name": "example",
        "title": "Example",
        "documentation_url": "https://network.example",
        "server_address": "optional",
        "main_server": "https://network.example",
        "credentials": [{"name": "token", "label": "Token", "help": "Ask.", "secret": True, "required": False}],
        "formats": ["text", "image"],
        "visibilities": ["public"],
        "text_limits": [{"maximum": 300, "unit": "graphemes", **source}],
        "max_attachments": 4,
        "media_rules": [
            {
                "kind": "image",
                "content_types": ["image/*"],
                "max_bytes": 9,
                "max_pixels": None,
                "fitted": False,
                **source,
            }
        ],
        "alt_text_limit": None,
        "limits_per_server": False,
        "metrics": ["likes"],
        "account_metrics": ["followers"],
        "verbs": ["publish"],
        "once": "own_key",
    }


async def test_an_address_that_a_network_has_not_is_null(world: GatewayHarness) -> None:
    limit = networks_pb.ContentLimit(maximum=500, unit="characters")
    rule = networks_pb.MediaRule(kind="image")
    world.backends.networks.networks = [
        networks_pb.Network(name="example", once="none", server_address="none", text_limits=[limit], media_rules=[rule])
    ]
    async with world.client() as client:
        (shown,) = (await client.get("/v1/networks")).json()["networks"]
    sources = [shown["text_limits"][0]["source_url"], shown["media_rules"][0]["source_url"]]
    assert [shown["documentation_url"], *sources] == [None, None, None]


async def test_a_network_that_is_not_offered_is_named_as_the_wrong_field(world: GatewayHarness) -> None:
    async with world.client() as client:
        answer = await client.post("/v1/channels", json={"network": "nowhere", "credentials": {"token": "x"}})
    problem = answer.json()
    assert (answer.status_code, problem["reason"], problem["field"]) == (400, "UNKNOWN_NETWORK", "/network")


async def test_a_channel_is_connected_listed_and_disconnected(world: GatewayHarness) -> None:
    async with world.client() as client:
        body = {"network": "sandbox", "credentials": {"access_token": "x"}}
        connected = await client.post("/v1/channels", json=body)
        assert connected.status_code == 201
        path = connected.headers["location"]
        assert (await client.get(path)).json() == connected.json()
        assert (await client.get("/v1/channels")).json()["channels"] == [connected.json()]
        assert (await client.delete(path)).json()["state"] == "disconnected"
    sent = world.backends.publisher.memory.received[0]
    assert isinstance(sent, channels_pb.ConnectChannelRequest)
    assert dict(sent.credentials) == {"access_token": "x"}


async def test_connecting_may_take_as_long_as_several_calls_to_a_network(world: GatewayHarness) -> None:
    async with world.client() as client:
        body = {"network": "sandbox", "credentials": {"access_token": "x"}}
        assert (await client.post("/v1/channels", json=body)).status_code == 201
    # 45 s, read on the wall clock of a deadline that was set on another one; other calls have a few seconds.
    seconds = world.backends.publisher.seconds_to_connect
    assert seconds is not None
    assert 40 < seconds < 50


async def test_a_picture_is_uploaded_as_its_bytes(world: GatewayHarness) -> None:
    async with world.client() as client:
        answer = await client.post("/v1/media", content=b"\x89PNG", headers={"Content-Type": "image/png"})
    assert (answer.status_code, answer.json()["size"]) == (201, 4)


async def test_a_person_resolves_an_unknown_delivery(world: GatewayHarness) -> None:
    delivery_id = show_id(DELIVERY, new_id())
    world.backends.publisher.deliveries["x"] = [
        deliveries_pb.Delivery(delivery_id=delivery_id, state=deliveries_pb.DELIVERY_STATE_UNKNOWN)
    ]
    async with world.client() as client:
        answer = await client.post(f"/v1/deliveries/{delivery_id}/resolve", json={"published": True})
    assert answer.json()["state"] == "published"


def test_a_channel_shows_that_it_is_held_back_and_shared() -> None:
    to_view = compile_view(channels_pb.Channel, ChannelView)
    held_back = to_view(channels_pb.Channel(blocked_until_time=Timestamp(seconds=1_770_000_000), shared=True))
    assert (held_back["blocked_until_time"], held_back["shared"]) == ("2026-02-02T02:40:00Z", True)
    free = to_view(channels_pb.Channel())
    assert (free["blocked_until_time"], free["shared"]) == (None, False)
