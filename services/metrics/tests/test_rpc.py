"""Every RPC: its callers, its responses, and its errors for bad input."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from regie.ids.v1.prefixes import CHANNEL, POST
from regie.metrics.v1 import post_metrics_service_pb2 as pb
from regie.metrics.v1.post_metrics_service_pb2_grpc import PostMetricsServiceStub
from regie_chassis.boundary.ids import new_id, show_id
from regie_chassis.boundary.rpc import RemoteError, call
from regie_local.testing.clock import FakeClock
from regie_local.testing.memory_broker import MemoryBroker
from regie_local.testing.service_fixtures import MakeEnvelope, Sign
from regie_local.testing.waiting import until
from regie_metrics.testing import MakeReading


async def _totals(stub: PostMetricsServiceStub, post_id: str, token: str) -> pb.GetPostMetricsResponse:
    return await call(stub.GetPostMetrics, pb.GetPostMetricsRequest(post_id=post_id), identity=token)


async def test_a_posts_numbers_come_back_by_channel_and_over_time(
    stub: PostMetricsServiceStub,
    memory_broker: MemoryBroker,
    clock: FakeClock,
    make_reading: MakeReading,
    make_envelope: MakeEnvelope,
    sign: Sign,
    workspace_id: UUID,
) -> None:
    post_id, channels, token = show_id(POST, new_id()), [show_id(CHANNEL, new_id()) for _ in "12"], sign(workspace_id)
    await memory_broker.publish(
        [
            make_envelope(make_reading(post_id=post_id, channel_id=channel, values={"likes": value, "replies": 1}))
            for channel, value in zip(channels, (4, 6), strict=True)
        ]
    )

    async def arrived() -> pb.GetPostMetricsResponse | None:
        numbers = await _totals(stub, post_id, token)
        return numbers if len(numbers.channels) == 2 else None

    numbers = await until(arrived)
    assert numbers is not None
    assert dict(numbers.totals) == {"likes": 10, "replies": 2}
    assert {one.channel_id: one.values["likes"] for one in numbers.channels} == dict(zip(channels, (4, 6), strict=True))
    assert numbers.channels[0].observe_time.ToDatetime() == clock.now().replace(tzinfo=None)
    assert set(numbers.channels[0].observe_times) == {"likes", "replies"}

    await clock.advance(timedelta(minutes=1))
    request = pb.GetPostSeriesRequest(post_id=post_id, metric="likes", granularity="hour")
    series = await call(stub.GetPostSeries, request, identity=token)
    assert [(point.start_time.ToDatetime().hour, point.total, point.gained) for point in series.points] == [(9, 10, 10)]


async def test_another_workspace_sees_nothing_of_it(
    stub: PostMetricsServiceStub,
    memory_broker: MemoryBroker,
    make_reading: MakeReading,
    make_envelope: MakeEnvelope,
    sign: Sign,
    workspace_id: UUID,
) -> None:
    post_id, other = show_id(POST, new_id()), new_id()
    await memory_broker.publish([make_envelope(make_reading(post_id=post_id))])

    async def arrived() -> bool:
        return bool((await _totals(stub, post_id, sign(workspace_id))).totals)

    await until(arrived)

    assert await _totals(stub, post_id, sign(other)) == pb.GetPostMetricsResponse()
    request = pb.GetPostSeriesRequest(post_id=post_id, metric="likes", granularity="day")
    assert (await call(stub.GetPostSeries, request, identity=sign(other))).points == []


async def test_a_post_without_numbers_has_empty_totals(
    stub: PostMetricsServiceStub, sign: Sign, workspace_id: UUID
) -> None:
    assert await _totals(stub, show_id(POST, new_id()), sign(workspace_id)) == pb.GetPostMetricsResponse()


async def test_a_call_without_identity_is_refused(stub: PostMetricsServiceStub) -> None:
    with pytest.raises(RemoteError) as refused:
        await _totals(stub, show_id(POST, new_id()), "")
    assert refused.value.reason == "INVALID_IDENTITY"


@pytest.mark.parametrize(
    ("changes", "reason", "field"),
    [
        ({"post_id": ""}, "INVALID_ID", "post_id"),
        ({"post_id": show_id(CHANNEL, new_id())}, "INVALID_ID", "post_id"),
        ({"metric": "fame"}, "UNKNOWN_METRIC", "metric"),
        ({"granularity": "week"}, "INVALID_RANGE", "granularity"),
        ({"start_time": Timestamp(seconds=4_000_000_000)}, "INVALID_RANGE", "start_time"),
        ({"start_time": Timestamp(seconds=0)}, "INVALID_RANGE", "start_time"),
        ({"start_time": Timestamp(seconds=10**17)}, "INVALID_RANGE", "start_time"),
        ({"end_time": Timestamp(seconds=-(10**17))}, "INVALID_RANGE", "end_time"),
        ({"end_time": Timestamp(seconds=-62_135_596_800)}, "INVALID_RANGE", "end_time"),
        ({"end_time": Timestamp(nanos=-5)}, "INVALID_RANGE", "end_time"),
    ],
)
async def test_bad_input_is_told_what_is_wrong_with_it(
    stub: PostMetricsServiceStub,
    sign: Sign,
    workspace_id: UUID,
    changes: dict[str, object],
    reason: str,
    field: str,
) -> None:
    fields: dict[str, Any] = {"post_id": show_id(POST, new_id()), "metric": "likes", "granularity": "hour", **changes}

    with pytest.raises(RemoteError) as refused:
        await call(stub.GetPostSeries, pb.GetPostSeriesRequest(**fields), identity=sign(workspace_id))

    assert (refused.value.reason, refused.value.field) == (reason, field)
    assert refused.value.http_status == 400
