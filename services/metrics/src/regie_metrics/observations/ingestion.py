"""Numbers as they were read from the networks: one narrow row for each (post, channel, metric, instant).

Taking in is idempotent and independent of order. Should one instant have two values, the greater one stands, so
that every order of arrival ends in the same tables.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from regie.ids.v1.prefixes import CHANNEL, POST
from regie.publisher.events.v1.publisher_events_pb2 import PostMetricsObserved
from regie_chassis.boundary.errors import Invalid
from regie_chassis.boundary.ids import parse_id
from regie_chassis.boundary.timestamps import read_timestamp
from regie_chassis.events.messaging import Event
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from regie_metrics import telemetry
from regie_metrics.observations import partitions, rollups

METRICS = frozenset(
    {
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
    }
)
NATIVE_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.:-]{0,63}")
MAX_NUMBERS = 50  # of one reading
FUTURE_TOLERANCE = timedelta(hours=1)  # of a publisher whose clock runs ahead
MAX_VALUE = 10**15  # far above any post's numbers, far below where sums over channels overflow
MAX_NETWORK = 80  # characters


class ObservationRefused(Invalid):
    """A reading cannot be true as a whole: its time is to come, or it is of no post. It ends in the dead letters."""


@dataclass(frozen=True, slots=True)
class Observation:
    """One number of one post on one channel: the total since publication, as it stood at `observe_time`."""

    workspace_id: UUID
    post_id: UUID
    channel_id: UUID
    network: str
    metric: str
    observe_time: datetime
    value: int


async def on_post_metrics_observed(
    session: AsyncSession, events: Sequence[Event[PostMetricsObserved]], *, now: datetime, retention: timedelta
) -> None:
    """Writes the publisher's readings. Raises ObservationRefused or InvalidId for a reading that cannot be true.

    A reading from before the retention is left out and counted: no other try could keep it. So is one number that
    cannot be true, and the rest of its reading stays. Numbers with a name outside METRICS are kept under the network's
    own name: a publisher may know a metric before we do.
    """
    taken = [one for event in events for one in _read(event, earliest=now - retention, latest=now + FUTURE_TOLERANCE)]
    await ingest(session, taken)


async def ingest(session: AsyncSession, taken: Sequence[Observation]) -> None:
    """Writes observations and everything that is derived from them, in the session's transaction. Repeatable."""
    if not taken:
        return
    await partitions.ensure(session, {one.observe_time.astimezone(UTC).date() for one in taken})
    columns = rollups.OBSERVATIONS.parameters_of(taken)
    await session.execute(_INSERT, columns)
    await rollups.roll_up(session, columns)
    telemetry.observations_ingested(len(taken))


def _read(event: Event[PostMetricsObserved], *, earliest: datetime, latest: datetime) -> list[Observation]:
    message = event.message
    post_id, channel_id = parse_id(POST, message.post_id), parse_id(CHANNEL, message.channel_id)
    observe_time = _observe_time(message, latest=latest)
    if observe_time < earliest:
        telemetry.reading_too_late(event.id, message.network)
        return []
    if not message.network or len(message.network) > MAX_NETWORK or "\x00" in message.network:
        raise ObservationRefused(f"the network has 1 to {MAX_NETWORK} characters")
    observations: list[Observation] = []
    for metric, value in sorted(message.values.items(), key=lambda number: (number[0] not in METRICS, number[0])):
        if problem := _problem_of(metric, value, kept=len(observations)):
            telemetry.number_refused(event.id, metric, message.network, problem)
            continue
        if metric not in METRICS:
            telemetry.metric_unnamed(metric, message.network)
        observations.append(
            Observation(event.workspace_id, post_id, channel_id, message.network, metric, observe_time, value)
        )
    return observations


def _problem_of(metric: str, value: int, *, kept: int) -> str:
    """Returns why a number is left out; empty when it is kept."""
    if not NATIVE_NAME.fullmatch(metric):
        return "name"
    if not 0 <= value <= MAX_VALUE:
        return "value"
    return "too_many" if kept >= MAX_NUMBERS else ""


def _observe_time(message: PostMetricsObserved, *, latest: datetime) -> datetime:
    observe_time = read_timestamp(message.observe_time)
    if observe_time is None:
        raise ObservationRefused("the observation's time is not a time")
    if observe_time > latest:
        raise ObservationRefused(
            f"the observation's time {_show(observe_time)} is after {_show(latest)}; handle it again by then"
        )
    return observe_time


def _show(time: datetime) -> str:
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z")


# Sorted by key, so that two ingests of the same rows lock them in the same order.
_INSERT = text(
    f"""
    INSERT INTO observation AS kept (workspace_id, post_id, metric, channel_id, network, observe_time, value)
    SELECT DISTINCT ON (workspace_id, post_id, metric, channel_id, observe_time)
           workspace_id, post_id, metric, channel_id, network, observe_time, value
    FROM {rollups.OBSERVATIONS.unnest}
    ORDER BY workspace_id, post_id, metric, channel_id, observe_time, value DESC
    ON CONFLICT (workspace_id, post_id, metric, channel_id, observe_time)
    DO UPDATE SET value = EXCLUDED.value WHERE EXCLUDED.value > kept.value
    """
)
