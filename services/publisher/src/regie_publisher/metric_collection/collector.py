"""Collects the numbers of published posts that are due, many accounts at once.

In a thread the first segment is read: it is the post that people meet, and a sum would count one reader several times.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from uuid import UUID

import structlog
from opentelemetry.trace import SpanKind, StatusCode
from regie.ids.v1.prefixes import CHANNEL, DELIVERY
from regie_chassis.boundary.ids import show_id
from regie_chassis.boundary.telemetry import link_to, traceparent_of, tracer
from regie_chassis.data.database import Database, is_transient
from regie_chassis.process.clock import Clock
from regie_networks.contract import Connector
from regie_networks.errors import ConnectorError, FailureKind, NotSent, Refused
from regie_networks.observation import Observation, Unread

from regie_publisher.channels import restrictions
from regie_publisher.channels.accounts import Accounts
from regie_publisher.fairness.hosts import Hosts, Peer
from regie_publisher.fairness.sharing import Limits
from regie_publisher.fairness.slots import Slots
from regie_publisher.metric_collection.observations import record_observations
from regie_publisher.metric_collection.schedule import (
    PLAN,
    NextCollection,
    ScheduledCollection,
    by_channel,
    claim_collections,
    find_due_collections,
    reschedule,
)
from regie_publisher.metric_collection.telemetry import count_left_out, count_observed, count_unread, log_given_up

ACCOUNTS_AT_ONCE = 50
MAX_POSTS = 25
"""Posts in one call, by the connectors' contract."""
CALL_TIMEOUT = timedelta(seconds=20)
"""The limit of one call, as that of a publish."""
MAX_YIELD = timedelta(seconds=30)
"""The longest time for which readings wait for posts; then one round is read, however many posts wait."""
RETRY = (timedelta(seconds=30), timedelta(minutes=2), timedelta(minutes=10), timedelta(hours=1))
"""Pauses after collections that failed in a row."""

log = structlog.get_logger()


class MetricCollector:
    """Collects due numbers. Any number of replicas."""

    def __init__(
        self,
        database: Database,
        *,
        connectors: Mapping[str, Connector],
        accounts: Accounts,
        hosts: Hosts,
        clock: Clock,
        delivery_slots: Slots,
    ) -> None:
        self._database = database
        self._connectors = connectors
        self._accounts = accounts
        self._hosts = hosts
        self._clock = clock
        self._delivery_slots = delivery_slots
        self._yield_time: datetime | None = None
        # A quarter of a host's window: deliveries, which people wait for, come first.
        self.slots = Slots(Limits(ACCOUNTS_AT_ONCE, 1, host_part=0.25), hosts)

    async def collect_due(self) -> int:
        """Collects due numbers and waits for the results. Returns the number of posts."""
        started = await self.start_due()
        await self.slots.finish()
        return started

    async def start_due(self) -> int:
        """Starts due collections: up to 25 posts of an account in one call, and one call of an account at a time.

        None waits for the slowest of the others. Returns the number of posts.
        """
        now = self._clock.now()
        if not self.slots.room or self._yields(now):
            return 0
        async with self._database.transaction() as session:
            waiting = await find_due_collections(session, slots=self.slots, now=now)
            chunks = {chunk[0].channel_id: chunk for chunk in by_channel(waiting, MAX_POSTS)}
            choice = self.slots.share_out([chunk[0] for chunk in chunks.values()], now)
            due = [one for first in choice.taken for one in chunks[first.channel_id]]
            claimed = await claim_collections(session, due, now=now)
        if claimed:
            await self._accounts.open([collection.channel_id for collection in claimed])
        for first in choice.taken:
            if chunk := [collection for collection in claimed if collection.channel_id == first.channel_id]:
                self.slots.start(first, self._collect(chunk, first.peer))
        return len(claimed)

    def _yields(self, now: datetime) -> bool:
        """Returns whether posts wait for a slot, so that readings leave them the database and the processor."""
        if not self._delivery_slots.crowded:
            self._yield_time = None
            return False
        if self._yield_time is None:
            self._yield_time = now
        if now - self._yield_time < MAX_YIELD:
            return True
        self._yield_time = now
        return False

    async def _collect(self, chunk: Sequence[ScheduledCollection], peer: Peer) -> None:
        """Reads the posts of one account and records the results, or postpones the collections."""
        network, channel_id = chunk[0].network, chunk[0].channel_id
        links = [link for collection in chunk for link in link_to(collection.traceparent)]
        with tracer().start_as_current_span(
            f"observe {network}", kind=SpanKind.CLIENT, links=links, attributes={"regie.posts": len(chunk)}
        ) as span:
            try:
                connector = self._connectors.get(network)
                if connector is None:
                    raise NotSent(f"{network} is not a network here")
                account = await self._accounts.account(channel_id)
                async with asyncio.timeout(CALL_TIMEOUT.total_seconds()):
                    results = await connector.observe(account, [collection.remote for collection in chunk])
            except Exception as error:  # broad: a failed reading is repeated later, whatever the error is
                span.set_status(StatusCode.ERROR, type(error).__name__)
                if not isinstance(error, ConnectorError | TimeoutError):
                    log.error("observe.failed", channel=show_id(CHANNEL, channel_id), exc_info=error)
                self._update_host(peer, error, channel_id)
                await self._postpone(chunk, error, version=self._accounts.version(channel_id))
                return
            await self._settle(chunk, results, traceparent_of(span), peer)

    def _update_host(self, peer: Peer, error: Exception | None, cause: UUID) -> None:
        """Records the end of a call for its host; an error of ours does not count for the host."""
        if error is None or isinstance(error, Refused):
            self._hosts.answered(peer)
        elif isinstance(error, ConnectorError | TimeoutError):
            self._hosts.silent(peer, self._clock.now(), cause=cause)

    async def _settle(
        self,
        chunk: Sequence[ScheduledCollection],
        results: Sequence[Observation | Unread],
        traceparent: str,
        peer: Peer,
    ) -> None:
        """Records the observations and postpones the collections of unread posts."""
        errors = {one.remote_id: one.error for one in results if isinstance(one, Unread)}
        read = [collection for collection in chunk if collection.remote.id not in errors]
        await self._record(read, [one for one in results if isinstance(one, Observation)], traceparent)
        by_error: dict[ConnectorError, list[ScheduledCollection]] = {}
        for collection in chunk:
            if collection.remote.id in errors:
                by_error.setdefault(errors[collection.remote.id], []).append(collection)
        for error, unread in by_error.items():
            await self._postpone(unread, error, version=self._accounts.version(unread[0].channel_id))
        # A server that answers for some posts is slow or picky, but not silent.
        silence = None if read else next(iter(by_error), None)
        self._update_host(peer, silence, chunk[0].channel_id)

    async def _record(
        self, chunk: Sequence[ScheduledCollection], observations: Sequence[Observation], traceparent: str
    ) -> None:
        """Records a chunk; if that fails, each of its posts alone, so that none fails the others."""
        now = self._clock.now()
        try:
            async with self._database.transaction() as session:
                await record_observations(session, chunk, observations, now=now, traceparent=traceparent)
        except Exception as error:  # broad: an outage fails the chunk, whatever else its one bad post
            if is_transient(error):
                raise  # the leases expire, and all are collected again
            if len(chunk) == 1:
                log.error("observe.not_recorded", delivery=show_id(DELIVERY, chunk[0].delivery_id), exc_info=error)
                await self._postpone(chunk, error)
                return
            for collection in chunk:
                own = [one for one in observations if one.remote_id == collection.remote.id]
                await self._record([collection], own, traceparent)
            return
        if chunk:
            count_observed(chunk[0].network, len(observations))
            count_left_out(chunk[0].network, sum(one.left_out for one in observations))

    async def _postpone(
        self, chunk: Sequence[ScheduledCollection], error: Exception, *, version: int | None = None
    ) -> None:
        if not chunk:
            return
        now = self._clock.now()
        nexts = [_after_error(collection, error, now) for collection in chunk]
        async with self._database.transaction() as session:
            claimed = await reschedule(session, nexts)
            count_unread(session, chunk[0].network, len(claimed))
            for one in nexts:
                delivery_id, channel_id = one.collection.delivery_id, one.collection.channel_id
                if one.next_action_time is None and delivery_id in claimed:
                    log_given_up(session, delivery_id, channel_id, type(error).__name__)
            if isinstance(error, Refused) and error.kind is FailureKind.AUTH_EXPIRED and version is not None:
                await restrictions.require_reconnect(
                    session,
                    channel_id=chunk[0].channel_id,
                    version=version,
                    reason=error.message,
                    now=now,
                    traceparent=chunk[0].traceparent,
                    source=restrictions.Source.OBSERVE,
                )


def _after_error(collection: ScheduledCollection, error: Exception, now: datetime) -> NextCollection:
    """Returns the repeated collection after a growing pause, and none past the end of the plan."""
    pause = RETRY[min(collection.failures, len(RETRY) - 1)]
    if isinstance(error, Refused) and error.retry_after is not None:
        pause = max(pause, error.retry_after)
    if now > collection.publish_time + PLAN[-1]:
        return NextCollection(collection, None, 0)
    return NextCollection(collection, now + pause, collection.failures + 1, collection.misses)
