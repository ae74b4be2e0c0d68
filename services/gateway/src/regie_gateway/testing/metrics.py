"""A metrics service that always knows three likes."""

# ruff: noqa: N802, ARG002  # the names and parameters are those of the generated servicer

from __future__ import annotations

from typing import Any

from regie.ids.v1.prefixes import CHANNEL
from regie.metrics.v1 import post_metrics_service_pb2 as pb
from regie.metrics.v1.post_metrics_service_pb2_grpc import PostMetricsServiceServicer
from regie_chassis.boundary.ids import new_id, show_id

from regie_gateway.testing.memory import Memory, timestamp


class FakeMetrics(PostMetricsServiceServicer):
    """Answers the same numbers for every post."""

    def __init__(self) -> None:
        self.memory = Memory()

    async def GetPostMetrics(self, request: pb.GetPostMetricsRequest, context: Any) -> pb.GetPostMetricsResponse:
        self.memory.see(request)
        channel = pb.ChannelTotals(
            channel_id=show_id(CHANNEL, new_id()),
            network="sandbox",
            values={"likes": 3},
            observe_time=timestamp(),
            observe_times={"likes": timestamp()},
        )
        return pb.GetPostMetricsResponse(totals={"likes": 3}, channels=[channel])

    async def GetPostSeries(self, request: pb.GetPostSeriesRequest, context: Any) -> pb.GetPostSeriesResponse:
        self.memory.see(request)
        return pb.GetPostSeriesResponse(points=[pb.SeriesPoint(start_time=timestamp(), total=3, gained=3)])
