"""A post's numbers as answers: the newest totals, and one number over time.

A network reports *lifetime* numbers: v(c, t) is the total on channel c from publication up to t. A *reporting
period's* number is a difference of two of them. With b the end of a bucket and a the end of the bucket with
observations before it:

    total(b)  = Σ over channels c of v(c, b)     v(c, t): c's last number observed up to t, 0 before its first
    gained(b) = total(b) - total(a)              negative when a network took some back

Hence Σ gained over a period = total at its end - total at its beginning, and a channel that was not read in a
bucket counts with its last known number, not as zero.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from uuid import UUID

from regie_chassis.boundary.errors import Invalid
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from regie_metrics.observations.ingestion import METRICS

MAX_RANGE = timedelta(days=731)  # two years, one of them a leap year
MAX_HOURLY_RANGE = timedelta(days=100)  # hence at most 2,401 points
TABLES = {"hour": "hourly", "day": "daily"}


class InvalidRange(Invalid):
    """A range ends before it begins, is longer than it may be, or has no known granularity."""


class UnknownMetric(Invalid):
    """A metric's name is none of METRICS."""


@dataclass(frozen=True, slots=True)
class ChannelTotals:
    """The newest lifetime numbers on one channel, when each was read, and when the newest of them was.

    A network that stops reporting a number leaves the last one standing, with the time of its own reading.
    """

    channel_id: UUID
    network: str
    values: Mapping[str, int]
    observe_times: Mapping[str, datetime]
    observe_time: datetime


@dataclass(frozen=True, slots=True)
class PostTotals:
    """The newest lifetime numbers by channel, and their sums; empty for a post without numbers."""

    totals: Mapping[str, int]
    channels: Sequence[ChannelTotals]


@dataclass(frozen=True, slots=True)
class Point:
    """One bucket of a series: `total` is a lifetime number at its end, `gained` the reporting period's."""

    start_time: datetime
    total: int
    gained: int


async def get_post_metrics(session: AsyncSession, *, workspace_id: UUID, post_id: UUID) -> PostTotals:
    """Returns lifetime numbers: each channel's newest, and per metric the sum of them over channels."""
    rows = await session.execute(_SELECT_LATEST, {"workspace_id": workspace_id, "post_id": post_id})
    totals: dict[str, int] = {}
    channels = []
    for channel_id, group in groupby(rows.all(), key=lambda row: row.channel_id):
        rows_of_channel = list(group)
        newest = max(rows_of_channel, key=lambda row: row.observe_time)
        values = {row.metric: row.value for row in rows_of_channel}
        times = {row.metric: row.observe_time for row in rows_of_channel}
        channels.append(ChannelTotals(channel_id, newest.network, values, times, newest.observe_time))
        for metric, value in values.items():
            totals[metric] = totals.get(metric, 0) + value
    return PostTotals(totals, channels)


async def get_post_series(
    session: AsyncSession,
    *,
    workspace_id: UUID,
    post_id: UUID,
    metric: str,
    granularity: str,
    start_time: datetime,
    end_time: datetime,
) -> list[Point]:
    """Returns the buckets with observations that overlap [start_time, end_time), the oldest first.

    Buckets are whole UTC hours or days, also at the edges of the range. Raises InvalidRange and UnknownMetric.
    """
    if metric not in METRICS:
        raise UnknownMetric(
            f"{metric[:80]!r} is not a metric; give one of {', '.join(sorted(METRICS))}", field="metric"
        )
    if granularity not in TABLES:
        raise InvalidRange(f"{granularity[:80]!r} is not a granularity; give hour or day", field="granularity")
    if start_time >= end_time:
        raise InvalidRange("the range ends before it begins; let it begin earlier", field="start_time")
    if end_time - start_time > MAX_RANGE:
        raise InvalidRange("the range is longer than two years; ask for less at a time", field="start_time")
    if granularity == "hour" and end_time - start_time > MAX_HOURLY_RANGE:
        raise InvalidRange(
            f"the range is longer than {MAX_HOURLY_RANGE.days} days; ask for less at a time, or by day",
            field="start_time",
        )
    rows = await session.execute(
        _SERIES[granularity],
        {
            "workspace_id": workspace_id,
            "post_id": post_id,
            "metric": metric,
            "start_time": start_time,
            "end_time": end_time,
        },
    )
    return [Point(row.start_time, row.total, row.gained) for row in rows]


_SELECT_LATEST = text(
    """
    SELECT channel_id, network, metric, observe_time, value FROM latest
    WHERE workspace_id = :workspace_id AND post_id = :post_id ORDER BY channel_id, metric
    """
)

# The running sum of every channel's differences is the sum of the channels' last known numbers.
_SERIES = {
    unit: text(
        f"""
        SELECT start_time, CAST(total AS bigint) AS total, CAST(gained AS bigint) AS gained
        FROM (
            SELECT start_time, sum(change) AS gained, sum(sum(change)) OVER (ORDER BY start_time) AS total
            FROM (
                SELECT start_time,
                       value - lag(value, 1, CAST(0 AS bigint))
                           OVER (PARTITION BY channel_id ORDER BY start_time) AS change
                FROM {table}
                WHERE workspace_id = :workspace_id AND post_id = :post_id AND metric = :metric
                  AND start_time < :end_time
            ) AS changes
            GROUP BY start_time
        ) AS points
        WHERE start_time >= date_trunc('{unit}', CAST(:start_time AS timestamptz), 'UTC')
        ORDER BY start_time
        """
    )
    for unit, table in TABLES.items()
}
