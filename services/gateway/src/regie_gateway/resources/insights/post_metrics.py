"""The numbers of a post: totals and series."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field
from regie.metrics.v1 import post_metrics_service_pb2 as pb
from regie_chassis.boundary.timestamps import timestamp

from regie_gateway.http.context import RequestContext
from regie_gateway.http.fields import Instant, PostId, View
from regie_gateway.http.operations import Operations
from regie_gateway.mapping.compiled import compile_view

operations = Operations("metrics", "What posts did.")

Metric = Literal[
    "likes",
    "replies",
    "reposts",
    "quotes",
    "shares",
    "saves",
    "clicks",
    "impressions",
    "reach",
    "views",
    "video_views",
]


class SeriesQuery(BaseModel):
    """One number, and its span of time."""

    model_config = ConfigDict(extra="forbid")

    metric: Metric = Field(description="Which number.")
    granularity: Literal["hour", "day"] = Field(default="hour", description="How long each point is.")
    start: Instant | None = Field(default=None, description="30 days before the end when absent.")
    end: Instant | None = Field(default=None, description="Now when absent; itself not included.")


class ChannelTotalsView(View):
    """The newest totals on one channel."""

    channel_id: str
    network: str
    values: dict[str, int] = Field(description="Numbers without a name here stand under the network's own.")
    observe_times: dict[str, datetime] = Field(description="When each of them was read.")
    observe_time: datetime | None = Field(description="When the newest of them was read.")


class PostMetricsView(View):
    """A post's totals since publication."""

    post_id: str
    totals: dict[str, int]
    channels: list[ChannelTotalsView]


class SeriesPointView(View):
    """One hour or day."""

    start_time: datetime | None
    total: int = Field(description="At the end of it, summed over channels.")
    gained: int = Field(description="During it; negative when the network took some back.")


class PostSeriesView(View):
    """One number over time, the oldest first; spans without observations are left out."""

    post_id: str
    metric: str
    granularity: Literal["hour", "day"]
    points: list[SeriesPointView]


_to_channel_totals = compile_view(pb.ChannelTotals, ChannelTotalsView)
_to_point = compile_view(pb.SeriesPoint, SeriesPointView)


@operations.add(
    "GET",
    "/v1/posts/{post_id}/metrics",
    scope="metrics:read",
    summary="Get a post's totals",
    description=(
        "The newest totals of each channel and their sum. Of a post without observations, which includes one that "
        "this workspace does not have, they are empty."
    ),
    answer=PostMetricsView,
)
async def get_post_metrics(context: RequestContext, post_id: PostId) -> dict[str, Any]:
    request = pb.GetPostMetricsRequest(post_id=post_id)
    response = await context.call(context.backends.post_metrics.GetPostMetrics, request)
    channels = [_to_channel_totals(channel) for channel in response.channels]
    return {"post_id": post_id, "totals": dict(response.totals), "channels": channels}


@operations.add(
    "GET",
    "/v1/posts/{post_id}/metrics/series",
    scope="metrics:read",
    summary="Get one number of a post over time",
    description="Hours or days in UTC with what was gained in each, the oldest first; empty without observations.",
    answer=PostSeriesView,
)
async def get_post_series(
    context: RequestContext, post_id: PostId, query: Annotated[SeriesQuery, Query()]
) -> dict[str, Any]:
    request = pb.GetPostSeriesRequest(
        post_id=post_id,
        metric=query.metric,
        granularity=query.granularity,
        start_time=timestamp(query.start),
        end_time=timestamp(query.end),
    )
    response = await context.call(context.backends.post_metrics.GetPostSeries, request)
    points = [_to_point(point) for point in response.points]
    return {"post_id": post_id, "metric": query.metric, "granularity": query.granularity, "points": points}
