"""Reads the numbers of published posts on a plan that thins out, and says what was seen.

Of a thread the first segment is read: it is the post that people meet, and a sum would count one reader several times.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from uuid import UUID

import structlog
from google.protobuf.timestamp_pb2 import Timestamp
from opentelemetry.trace import SpanKind, StatusCode
from regie.publisher.events.v1.publisher_events_pb2 import EngagementObserved, PostMetricsObserved, PostRemoved
from regie_chassis.clock import Clock
from regie_chassis.database import Database, is_transient
from regie_chassis.ids import CHANNEL, DELIVERY, POST, show_id
from regie_chassis.outbox import fits, fitting, stage
from regie_chassis.telemetry import link_to, traceparent_of, tracer
from regie_chassis.text import storable
from regie_networks.contract import Connector
from regie_networks.errors import ConnectorError, FailureKind, NotSent, Refused
from regie_networks.observation import Observation, Unread
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from regie_publisher import standing
from regie_publisher.accounts import Accounts
from regie_publisher.deliveries.delivery import NETWORK_TIMEOUT
from regie_publisher.hosts import Hosts, Peer
from regie_publisher.polls import PLAN, NextReading, Poll, by_channel, claim_polls, find_polls, reschedule
from regie_publisher.shares import Limits, Slots
from regie_publisher.telemetry import count_left_out, count_observed, count_unread, tell_unread

READINGS = 50
"""Accounts that are read at once."""
CHUNK = 25
"""Posts in one call: what the connectors' contract allows."""
RETRY = (timedelta(seconds=30), timedelta(minutes=2), timedelta(minutes=10), timedelta(hours=1))
GONE_AFTER = 3
"""So many readings in a row without a post, and it is taken for deleted; a reading that fails is none of them."""
GONE_AGE = timedelta(hours=1)
"""A younger post is not gone: what reads for a network may lag behind what writes."""

REMOVED = "the network no longer has the post; it was deleted there, and its numbers are read no more"

log = structlog.get_logger()


def next_reading(publish_time: datetime, now: datetime) -> datetime | None:
    """Returns the first point of the plan that lies after now: what was slept through is not read late."""
    return next((publish_time + after for after in PLAN if publish_time + after > now), None)


class Observer:
    """Reads the numbers that are due. Any number of replicas."""

    def __init__(
        self,
        database: Database,
        *,
        connectors: Mapping[str, Connector],
        accounts: Accounts,
        hosts: Hosts,
        clock: Clock,
    ) -> None:
        self._database = database
        self._connectors = connectors
        self._accounts = accounts
        self._hosts = hosts
        self._clock = clock
        self.slots = Slots(Limits(READINGS, 1, host_part=0.25), hosts)  # what people wait for comes first

    async def observe_due(self) -> int:
        """Reads what is due, to the end. Returns how many posts were asked for."""
        begun = await self.begin_due()
        await self.slots.finish()
        return begun

    async def begin_due(self) -> int:
        """Begins to read what is due, up to 25 posts of an account in one call and one call of an account at a time.

        None waits for the slowest of the others. Returns for how many posts.
        """
        if not self.slots.room:
            return 0
        now = self._clock.now()
        async with self._database.transaction() as session:
            waiting = await find_polls(session, slots=self.slots, now=now)
            chunks = {chunk[0].channel_id: chunk for chunk in by_channel(waiting, CHUNK)}
            choice = self.slots.share_out([chunk[0] for chunk in chunks.values()], now)
            due = [one for first in choice.taken for one in chunks[first.channel_id]]
            polls = await claim_polls(session, due, now=now)
        if polls:
            await self._accounts.open([poll.channel_id for poll in polls])
        for first in choice.taken:
            if taken := [poll for poll in polls if poll.channel_id == first.channel_id]:
                self.slots.begin(first, self._observe(taken, first.peer))
        return len(polls)

    async def _observe(self, polls: Sequence[Poll], peer: Peer) -> None:
        """Reads one chunk and records it, or puts it off."""
        network, channel_id = polls[0].network, polls[0].channel_id
        links = [link for poll in polls for link in link_to(poll.traceparent)]
        with tracer().start_as_current_span(
            f"observe {network}", kind=SpanKind.CLIENT, links=links, attributes={"regie.posts": len(polls)}
        ) as span:
            try:
                connector = self._connectors.get(network)
                if connector is None:
                    raise NotSent(f"{network} is not a network here")
                account = await self._accounts.account(channel_id)
                async with asyncio.timeout(NETWORK_TIMEOUT.total_seconds()):
                    seen = await connector.observe(account, [poll.remote for poll in polls])
            except Exception as error:  # broad: reading fails in any way, and is simply done again
                span.set_status(StatusCode.ERROR, type(error).__name__)
                if not isinstance(error, ConnectorError | TimeoutError):
                    log.error("observe.failed", channel=show_id(CHANNEL, channel_id), exc_info=error)
                self._note(peer, error, channel_id)
                await self._put_off(polls, error, version=self._accounts.version(channel_id))
                return
            await self._settle(polls, seen, traceparent_of(span), peer)

    def _note(self, peer: Peer, error: Exception | None, cause: UUID) -> None:
        """Tells the hosts how a call ended; an error of ours says nothing of them."""
        if error is None or isinstance(error, Refused):
            self._hosts.answered(peer)
        elif isinstance(error, ConnectorError | TimeoutError):
            self._hosts.silent(peer, self._clock.now(), cause=cause)

    async def _settle(
        self, polls: Sequence[Poll], seen: Sequence[Observation | Unread], traceparent: str, peer: Peer
    ) -> None:
        """Records what was read and puts off what was not."""
        unread = {one.remote_id: one.error for one in seen if isinstance(one, Unread)}
        read = [poll for poll in polls if poll.remote.id not in unread]
        await self._keep(read, [one for one in seen if isinstance(one, Observation)], traceparent)
        by_error: dict[ConnectorError, list[Poll]] = {}
        for poll in polls:
            if poll.remote.id in unread:
                by_error.setdefault(unread[poll.remote.id], []).append(poll)
        for error, left in by_error.items():
            await self._put_off(left, error, version=self._accounts.version(left[0].channel_id))
        # A server that answers for some is slow or picky, and not away.
        silence = None if read else next(iter(by_error), None)
        self._note(peer, silence, polls[0].channel_id)

    async def _keep(self, polls: Sequence[Poll], seen: Sequence[Observation], traceparent: str) -> None:
        """Records a chunk; where that fails, each of its posts by itself, so that none takes the others along."""
        try:
            async with self._database.transaction() as session:
                await _record(session, polls, seen, now=self._clock.now(), traceparent=traceparent)
        except Exception as error:  # broad: an outage fails the chunk, whatever else its one bad post
            if is_transient(error):
                raise  # the lease brings all of them back
            if len(polls) == 1:
                log.error("observe.not_recorded", delivery=show_id(DELIVERY, polls[0].delivery_id), exc_info=error)
                await self._put_off(polls, error)
                return
            for poll in polls:
                await self._keep([poll], [one for one in seen if one.remote_id == poll.remote.id], traceparent)
            return
        if polls:
            count_observed(polls[0].network, len(seen))
            count_left_out(polls[0].network, sum(one.left_out for one in seen))

    async def _put_off(self, polls: Sequence[Poll], error: Exception, *, version: int | None = None) -> None:
        if not polls:
            return
        now = self._clock.now()
        nexts = [_after_error(poll, error, now) for poll in polls]
        async with self._database.transaction() as session:
            held = await reschedule(session, nexts)
            count_unread(session, polls[0].network, len(held))
            for one in nexts:
                if one.act_time is None and one.poll.delivery_id in held:
                    tell_unread(session, one.poll.delivery_id, one.poll.channel_id, type(error).__name__)
            if isinstance(error, Refused) and error.kind is FailureKind.AUTH_EXPIRED and version is not None:
                await standing.need_attention(
                    session,
                    channel_id=polls[0].channel_id,
                    version=version,
                    reason=error.message,
                    now=now,
                    traceparent=polls[0].traceparent,
                    source=standing.Source.OBSERVE,
                )


def _after_error(poll: Poll, error: Exception, now: datetime) -> NextReading:
    """Tries again ever later, and gives up where the plan ends."""
    pause = RETRY[min(poll.failures, len(RETRY) - 1)]
    if isinstance(error, Refused) and error.retry_after is not None:
        pause = max(pause, error.retry_after)
    if now > poll.publish_time + PLAN[-1]:
        return NextReading(poll, None, 0)
    return NextReading(poll, now + pause, poll.failures + 1, poll.misses)


def _after_reading(poll: Poll, seen: bool, now: datetime) -> NextReading:
    gone = not seen and _is_gone(poll, now)
    act_time = None if gone else next_reading(poll.publish_time, now)
    return NextReading(poll, act_time, 0, 0 if seen else poll.misses + 1)


def _is_gone(poll: Poll, now: datetime) -> bool:
    """True when one more reading without the post proves that it was deleted."""
    return poll.misses + 1 >= GONE_AFTER and now >= poll.publish_time + GONE_AGE


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
    await standing.prove(session, {poll.channel_id for poll, _ in read}, source=standing.Source.OBSERVE, now=now)
    for poll in polls:
        if poll.delivery_id in held and poll.remote.id not in by_remote and _is_gone(poll, now):
            await _tell_removed(session, poll, observe_time, now)
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
        _INSERT_ENGAGEMENTS,
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
            time=now,
            traceparent=poll.traceparent,
        )


async def _tell_removed(session: AsyncSession, poll: Poll, observe_time: Timestamp, now: datetime) -> None:
    await session.execute(_NOTE_REMOVED, {"id": poll.delivery_id, "now": now, "detail": REMOVED})
    message = PostRemoved(
        delivery_id=show_id(DELIVERY, poll.delivery_id),
        post_id=show_id(POST, poll.post_id),
        channel_id=show_id(CHANNEL, poll.channel_id),
        network=poll.network,
        remote_id=poll.remote.id,
        remote_url=poll.remote.url,
        observe_time=observe_time,
    )
    stage(
        session,
        message,
        workspace_id=poll.workspace_id,
        time=now,
        traceparent=poll.traceparent,
    )


_INSERT_ENGAGEMENTS = text(
    """
    INSERT INTO engagement (channel_id, post_id, kind, actor_id)
    SELECT * FROM unnest(
        CAST(:channel_ids AS uuid[]), CAST(:post_ids AS uuid[]), CAST(:kinds AS text[]), CAST(:actor_ids AS text[])
    )
    ON CONFLICT DO NOTHING RETURNING channel_id, post_id, kind, actor_id
    """
)

_NOTE_REMOVED = text(
    """
    INSERT INTO delivery_change (delivery_id, time, state, cause, attempt, detail, trace_id, segments_out)
    SELECT id, :now, 'removed', 'observe', attempt, :detail, split_part(traceparent, '-', 2), cardinality(remote_ids)
    FROM delivery WHERE id = :id
    """
)
