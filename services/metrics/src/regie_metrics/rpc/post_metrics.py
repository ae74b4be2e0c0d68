"""PostMetricsService: message → use case → message."""

from __future__ import annotations

from datetime import datetime, timedelta

from google.protobuf.timestamp_pb2 import Timestamp
from regie.ids.v1.prefixes import CHANNEL, POST
from regie.metrics.v1 import post_metrics_service_pb2 as pb
from regie.metrics.v1.post_metrics_service_pb2_grpc import PostMetricsServiceServicer
from regie_chassis.boundary.ids import parse_id, show_id
from regie_chassis.boundary.rpc import Context, caller
from regie_chassis.boundary.timestamps import read_timestamp, timestamp
from regie_chassis.data.database import Database
from regie_chassis.process.clock import Clock

from regie_metrics import series

DEFAULT_RANGE = timedelta(days=30)


class PostMetricsServicer(PostMetricsServiceServicer):
    """Serves the caller's workspace alone."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def GetPostMetrics(self, request: pb.GetPostMetricsRequest, context: Context) -> pb.GetPostMetricsResponse:
        post_id = parse_id(POST, request.post_id, "post_id")
        async with self._database.reading() as session:
            metrics = await series.get_post_metrics(session, workspace_id=caller().workspace_id, post_id=post_id)
        return pb.GetPostMetricsResponse(totals=metrics.totals, channels=map(_channel_message, metrics.channels))

    async def GetPostSeries(self, request: pb.GetPostSeriesRequest, context: Context) -> pb.GetPostSeriesResponse:
        post_id = parse_id(POST, request.post_id, "post_id")
        end_time = _time(request.end_time, "end_time") if request.HasField("end_time") else self._clock.now()
        given = request.HasField("start_time")
        start_time = _time(request.start_time, "start_time") if given else _before(end_time, DEFAULT_RANGE)
        async with self._database.reading() as session:
            points = await series.get_post_series(
                session,
                workspace_id=caller().workspace_id,
                post_id=post_id,
                metric=request.metric,
                granularity=request.granularity,
                start_time=start_time,
                end_time=end_time,
            )
        return pb.GetPostSeriesResponse(
            points=[
                pb.SeriesPoint(start_time=timestamp(point.start_time), total=point.total, gained=point.gained)
                for point in points
            ]
        )


def _channel_message(totals: series.ChannelTotals) -> pb.ChannelTotals:
    return pb.ChannelTotals(
        channel_id=show_id(CHANNEL, totals.channel_id),
        network=totals.network,
        values=totals.values,
        observe_time=timestamp(totals.observe_time),
        observe_times={metric: timestamp(time) for metric, time in totals.observe_times.items()},
    )


def _time(value: Timestamp, field: str) -> datetime:
    time = read_timestamp(value)
    if time is None:
        raise series.InvalidRange("this is not a time of the years 1 to 9999", field=field)
    return time


def _before(end_time: datetime, span: timedelta) -> datetime:
    try:
        return end_time - span
    except OverflowError as error:
        raise series.InvalidRange("the range begins before the year 1; let it end later", field="end_time") from error
