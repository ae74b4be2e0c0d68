"""Reads the numbers of published posts on a plan that thins out, and says what was seen.

Of a thread the first segment is read: it is the post that people meet, and a sum would count one reader several times.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from itertools import groupby

import structlog
from google.protobuf.timestamp_pb2 import Timestamp
from opentelemetry.trace import SpanKind, StatusCode
from regie.publisher.events.v1.publisher_events_pb2 import EngagementObserved, PostMetricsObserved
from regie_chassis.clock import Clock
from regie_chassis.database import Database
from regie_chassis.ids import CHANNEL, DELIVERY, POST, show_id
from regie_chassis.outbox import fits, fitting, stage
from regie_chassis.telemetry import link_to, traceparent_of, tracer
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from regie_publisher import standing
from regie_publisher.accounts import Accounts
from regie_publisher.connectors.connector import (
    Connector,
    ConnectorError,
    FailureKind,
    NotSent,
    Observation,
    Refused,
)
from regie_publisher.deliveries.delivery import NETWORK_TIMEOUT
from regie_publisher.polls import PLAN, NextReading, Poll, claim_polls, reschedule
from regie_publisher.telemetry import count_observed
from regie_publisher.words import storable

CHUNK = 25
"""Posts in one call: what the connectors' contract allows."""
RETRY = (timedelta(seconds=30), timedelta(minutes=2), timedelta(minutes=10), timedelta(hours=1))
GONE_AFTER = 3
"""So many times in a row left out by the network, and the post is taken for deleted."""

log = structlog.get_logger()


def next_reading(publish_time: datetime, now: datetime) -> datetime | None:
    """Returns the first point of the plan that lies after now: what was slept through is not read late."""
    return next((publish_time + after for after in PLAN if publish_time + after > now), None)


class Observer:
    """Reads the numbers that are due. Any number of replicas."""

    def __init__(
        self, database: Database, *, connectors: Mapping[str, Connector], accounts: Accounts, clock: Clock
    ) -> None:
        self._database = database
        self._connectors = connectors
        self._accounts = accounts
        self._clock = clock

    async def observe_due(self) -> int:
        """Reads what is due, up to 25 posts of an account in one call. Returns how many posts were asked for."""
        async with self._database.transaction() as session:
            polls = await claim_polls(session, self._clock.now())
        if not polls:
            return 0
        await self._accounts.open([poll.channel_id for poll in polls])
        polls.sort(key=lambda poll: str(poll.channel_id))
        groups = [list(group) for _, group in groupby(polls, key=lambda poll: poll.channel_id)]
        results = await asyncio.gather(*(self._observe_channel(group) for group in groups), return_exceptions=True)
        for group, error in zip(groups, results, strict=True):
            if isinstance(error, Exception):  # one account must not stop the others; its lease brings it back
                log.error("observe.not_recorded", channel=show_id(CHANNEL, group[0].channel_id), exc_info=error)
        return len(polls)

    async def _observe_channel(self, polls: Sequence[Poll]) -> None:
        for start in range(0, len(polls), CHUNK):
            chunk = polls[start : start + CHUNK]
            error = await self._observe(chunk)
            if isinstance(error, Refused):  # it holds for the whole account
                await self._put_off(polls[start + CHUNK :], error)
                return

    async def _observe(self, polls: Sequence[Poll]) -> Exception | None:
        """Reads one chunk and records it. Returns what went wrong at the network, if anything did."""
        network, channel_id = polls[0].network, polls[0].channel_id
        links = [link for poll in polls for link in link_to(poll.traceparent)]
        with tracer().start_as_current_span(
            f"observe {network}", kind=SpanKind.CLIENT, links=links, attributes={"regie.posts": len(polls)}
        ) as span:
            try:
                connector = self._connectors.get(network)
                if connector is None:
                    raise NotSent(f"{network} is not a network here")
                account = self._accounts.account(channel_id)
                async with asyncio.timeout(NETWORK_TIMEOUT.total_seconds()):
                    seen = await connector.observe(account, [poll.remote for poll in polls])
            except Exception as error:  # broad: reading fails in any way, and is simply done again
                span.set_status(StatusCode.ERROR, type(error).__name__)
                if not isinstance(error, ConnectorError | TimeoutError):
                    log.error("observe.failed", channel=show_id(CHANNEL, channel_id), exc_info=error)
                await self._put_off(polls, error, version=self._accounts.version(channel_id))
                return error
            traceparent = traceparent_of(span)
            async with self._database.transaction() as session:
                await _record(session, polls, seen, now=self._clock.now(), traceparent=traceparent)
            count_observed(network, len(seen))
            return None

    async def _put_off(self, polls: Sequence[Poll], error: Exception, *, version: int | None = None) -> None:
        if not polls:
            return
        now = self._clock.now()
        async with self._database.transaction() as session:
            await reschedule(session, [_after_error(poll, error, now) for poll in polls])
            if isinstance(error, Refused) and error.kind is FailureKind.AUTH_EXPIRED and version is not None:
                await standing.need_attention(
                    session,
                    channel_id=polls[0].channel_id,
                    version=version,
                    reason=error.message,
                    now=now,
                    traceparent=polls[0].traceparent,
                )


def _after_error(poll: Poll, error: Exception, now: datetime) -> NextReading:
    pause = RETRY[min(poll.failures, len(RETRY) - 1)]
    if isinstance(error, Refused) and error.retry_after is not None:
        pause = error.retry_after
    if now > poll.publish_time + PLAN[-1]:
        return NextReading(poll, None, 0)
    return NextReading(poll, now + pause, poll.failures + 1)


def _after_reading(poll: Poll, seen: bool, now: datetime) -> NextReading:
    failures = 0 if seen else poll.failures + 1
    return NextReading(poll, None if failures >= GONE_AFTER else next_reading(poll.publish_time, now), failures)


async def _record(
    session: AsyncSession, polls: Sequence[Poll], seen: Sequence[Observation], *, now: datetime, traceparent: str
) -> None:
    """Says what was read for polls that are still held, and plans their next reading."""
    by_remote = {observation.remote_id: observation for observation in seen}
    held = await reschedule(session, [_after_reading(poll, poll.remote.id in by_remote, now) for poll in polls])
    read = [
        (poll, by_remote[poll.remote.id]) for poll in polls if poll.delivery_id in held and poll.remote.id in by_remote
    ]
    observe_time = Timestamp()
    observe_time.FromDatetime(now)
    for poll, observation in read:
        # The delivery's trace goes on where the numbers are said; the reading itself is a trace of its own, linked.
        parent = poll.traceparent or traceparent
        message = PostMetricsObserved(
            delivery_id=show_id(DELIVERY, poll.delivery_id),
            post_id=show_id(POST, poll.post_id),
            channel_id=show_id(CHANNEL, poll.channel_id),
            network=poll.network,
            observe_time=observe_time,
            values=dict(observation.values),
        )
        if not fits(message):  # one network's numbers must not keep the other posts' from being recorded
            log.error("observe.too_large", delivery=message.delivery_id, bytes=message.ByteSize())
            continue
        stage(
            session,
            message,
            workspace_id=poll.workspace_id,
            aggregate_id=str(poll.post_id),
            time=now,
            traceparent=parent,
        )
    await _say_engagements(session, read, observe_time, now)


async def _say_engagements(
    session: AsyncSession, read: Sequence[tuple[Poll, Observation]], observe_time: Timestamp, now: datetime
) -> None:
    """Says each person's reaction once for a post, however often it is seen."""
    seen = {
        (poll.channel_id, poll.post_id, one.kind, storable(one.actor_id)): (poll, one)
        for poll, observation in read
        for one in observation.engagements
    }
    if not seen:
        return
    keys = sorted(seen)
    rows = await session.execute(
        text(
            "INSERT INTO engagement (channel_id, post_id, kind, actor_id)"
            " SELECT * FROM unnest(CAST(:channel_ids AS uuid[]), CAST(:post_ids AS uuid[]), CAST(:kinds AS text[]),"
            " CAST(:actor_ids AS text[])) ON CONFLICT DO NOTHING RETURNING channel_id, post_id, kind, actor_id"
        ),
        {
            "channel_ids": [key[0] for key in keys],
            "post_ids": [key[1] for key in keys],
            "kinds": [key[2] for key in keys],
            "actor_ids": [key[3] for key in keys],
        },
    )
    for row in rows:
        poll, one = seen[(row.channel_id, row.post_id, row.kind, row.actor_id)]
        message = EngagementObserved(
            post_id=show_id(POST, poll.post_id),
            channel_id=show_id(CHANNEL, poll.channel_id),
            network=poll.network,
            actor_id=row.actor_id,
            actor_handle=storable(one.actor_handle),
            kind=one.kind,
            observe_time=observe_time,
        )
        stage(
            session,
            fitting(message),
            workspace_id=poll.workspace_id,
            aggregate_id=str(poll.post_id),
            time=now,
            traceparent=poll.traceparent,
        )
