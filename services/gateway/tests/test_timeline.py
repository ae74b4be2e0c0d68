"""The timeline of a post, merged from the accounts of the scheduler and the publisher."""

from __future__ import annotations

from google.protobuf.timestamp_pb2 import Timestamp
from regie.ids.v1.prefixes import CHANNEL, DELIVERY
from regie.publisher.events.v1.publisher_events_pb2 import FailureKind
from regie.publisher.v1 import deliveries_service_pb2 as deliveries_pb
from regie.scheduler.v1 import posts_service_pb2 as scheduler_pb
from regie_chassis.boundary.ids import new_id, show_id
from regie_gateway.testing.harness import GatewayHarness

CHANNEL_ID = show_id(CHANNEL, new_id())
POST = {"title": "Opening", "variants": [{"channel_id": CHANNEL_ID, "text": "Doors open at eight."}]}


async def test_the_timeline_puts_both_accounts_in_the_order_of_time(world: GatewayHarness) -> None:
    async with world.client() as client:
        path = (await client.post("/v1/posts", json=POST)).headers["location"]
        post_id = path.rsplit("/", 1)[1]
        _put_timeline(world, post_id)
        timeline = (await client.get(f"{path}/timeline")).json()
        assert [(entry["subject"], entry["state"]) for entry in timeline["entries"]] == [
            ("post", "scheduled"),
            ("delivery", "claimed"),
            ("delivery", "published"),
            ("post", "published"),
        ]
        assert timeline["complete"]
        assert timeline["entries"][2]["network_message"] == "ok"
        world.backends.publisher.memory.down = True
        partial = (await client.get(f"{path}/timeline")).json()
    assert (partial["complete"], partial["missing"]) == (False, ["deliveries"])
    assert [(entry["subject"], entry["state"]) for entry in partial["entries"]] == [
        ("post", "scheduled"),
        ("delivery", "published"),
        ("post", "published"),
    ]


def _put_timeline(world: GatewayHarness, post_id: str) -> None:
    def at(second: int) -> Timestamp:
        return Timestamp(seconds=1_770_000_000 + second)

    world.backends.scheduler.timelines[post_id] = [
        scheduler_pb.TimelineEntry(
            time=at(1), post_state=scheduler_pb.POST_STATE_SCHEDULED, cause=scheduler_pb.CHANGE_CAUSE_API
        ),
        scheduler_pb.TimelineEntry(
            time=at(5),
            variant_state=scheduler_pb.VARIANT_STATE_PUBLISHED,
            cause=scheduler_pb.CHANGE_CAUSE_PUBLISHER,
            channel_id=CHANNEL_ID,
        ),
        scheduler_pb.TimelineEntry(
            time=at(5), post_state=scheduler_pb.POST_STATE_PUBLISHED, cause=scheduler_pb.CHANGE_CAUSE_PUBLISHER
        ),
    ]
    changes = [
        deliveries_pb.DeliveryChange(
            time=at(2), state=deliveries_pb.DELIVERY_STATE_CLAIMED, cause=deliveries_pb.DELIVERY_CAUSE_WORKER, attempt=1
        ),
        deliveries_pb.DeliveryChange(
            time=at(4),
            state=deliveries_pb.DELIVERY_STATE_PUBLISHED,
            cause=deliveries_pb.DELIVERY_CAUSE_WORKER,
            attempt=1,
            network_message="ok",
        ),
    ]
    delivery = deliveries_pb.Delivery(
        delivery_id=show_id(DELIVERY, new_id()), post_id=post_id, channel_id=CHANNEL_ID, changes=changes
    )
    world.backends.publisher.deliveries[post_id] = [delivery]


async def test_the_timeline_tells_until_when_a_lost_call_may_still_land(world: GatewayHarness) -> None:
    async with world.client() as client:
        path = (await client.post("/v1/posts", json=POST)).headers["location"]
        post_id = path.rsplit("/", 1)[1]
        _put_timeline(world, post_id)
        [delivery] = world.backends.publisher.deliveries[post_id]
        delivery.changes[-1].state = delivery.state = deliveries_pb.DELIVERY_STATE_UNKNOWN
        delivery.quiet_end_time.seconds, delivery.next_look_time.seconds = 1_770_000_120, 1_770_000_014
        entries = (await client.get(f"{path}/timeline")).json()["entries"]
    times = [(entry["quiet_end_time"], entry["next_look_time"]) for entry in entries if entry["subject"] == "delivery"]
    assert times == [(None, None), ("2026-02-02T02:42:00Z", "2026-02-02T02:40:14Z")]


async def test_the_timeline_says_which_parts_of_a_thread_came_out_and_where(world: GatewayHarness) -> None:
    async with world.client() as client:
        path = (await client.post("/v1/posts", json=POST)).headers["location"]
        post_id = path.rpartition("/")[2]
        addresses = ["https://net.example/1", "https://net.example/2", ""]
        published, failed = deliveries_pb.DELIVERY_SEGMENT_STATE_PUBLISHED, deliveries_pb.DELIVERY_SEGMENT_STATE_FAILED
        states = [published, published, failed]
        publishing = deliveries_pb.DELIVERY_STATE_PUBLISHING
        changes = [
            *((publishing, out, "") for out in range(3)),
            (deliveries_pb.DELIVERY_STATE_FAILED, 2, "not allowed"),
        ]
        world.backends.publisher.deliveries[post_id] = [
            deliveries_pb.Delivery(
                delivery_id=show_id(DELIVERY, new_id()),
                channel_id=CHANNEL_ID,
                state=deliveries_pb.DELIVERY_STATE_FAILED,
                failure_kind=FailureKind.FAILURE_KIND_CONTENT_REJECTED,
                segments=[
                    deliveries_pb.DeliverySegment(state=state, remote_url=url)
                    for state, url in zip(states, addresses, strict=True)
                ],
                changes=[
                    deliveries_pb.DeliveryChange(
                        time=Timestamp(seconds=at), state=state, segments_out=out, detail=detail, trace_id="a" * 32
                    )
                    for at, (state, out, detail) in enumerate(changes)
                ],
            )
        ]
        timeline = (await client.get(f"{path}/timeline")).json()
    assert [(entry["segments_out"], entry["detail"]) for entry in timeline["entries"]] == [
        (0, ""),
        (1, "1 of 3 parts are out: https://net.example/1"),
        (2, "2 of 3 parts are out: https://net.example/2"),
        (2, "2 of 3 parts are out: not allowed"),
    ]


async def test_in_the_timeline_a_post_ends_after_the_deliveries_of_the_same_moment(world: GatewayHarness) -> None:
    def at(second: int) -> Timestamp:
        return Timestamp(seconds=1_770_000_000 + second)

    async with world.client() as client:
        path = (await client.post("/v1/posts", json=POST)).headers["location"]
        post_id = path.rsplit("/", 1)[1]
        world.backends.scheduler.timelines[post_id] = [
            scheduler_pb.TimelineEntry(
                time=at(1), post_state=scheduler_pb.POST_STATE_DISPATCHED, cause=scheduler_pb.CHANGE_CAUSE_DUE
            ),
            scheduler_pb.TimelineEntry(
                time=at(2), post_state=scheduler_pb.POST_STATE_PUBLISHED, cause=scheduler_pb.CHANGE_CAUSE_PUBLISHER
            ),
        ]
        changes = [
            deliveries_pb.DeliveryChange(
                time=at(1), state=deliveries_pb.DELIVERY_STATE_PENDING, cause=deliveries_pb.DELIVERY_CAUSE_POST_DUE
            ),
            deliveries_pb.DeliveryChange(
                time=at(2),
                state=deliveries_pb.DELIVERY_STATE_PUBLISHING,
                cause=deliveries_pb.DELIVERY_CAUSE_WORKER,
                attempt=1,
            ),
            deliveries_pb.DeliveryChange(
                time=at(2),
                state=deliveries_pb.DELIVERY_STATE_PUBLISHED,
                cause=deliveries_pb.DELIVERY_CAUSE_WORKER,
                attempt=1,
            ),
        ]
        world.backends.publisher.deliveries[post_id] = [
            deliveries_pb.Delivery(
                delivery_id=show_id(DELIVERY, new_id()), post_id=post_id, channel_id=CHANNEL_ID, changes=changes
            )
        ]
        timeline = (await client.get(f"{path}/timeline")).json()
    assert [(entry["subject"], entry["state"]) for entry in timeline["entries"]] == [
        ("post", "dispatched"),
        ("delivery", "pending"),
        ("delivery", "publishing"),
        ("delivery", "published"),
        ("post", "published"),
    ]
