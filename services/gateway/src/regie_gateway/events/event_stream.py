"""The event stream: server-sent events of one workspace, from where the client left off.

Each subscription pulls its own pages from the log, so that a slow one holds nothing but its own connection. One loop
for the whole process looks whether the log has grown, and wakes the subscriptions of the workspaces concerned.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Collection
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID

import orjson
import structlog
from regie_chassis.boundary.errors import TooManyRequests
from regie_chassis.data.database import Database
from regie_chassis.events.messaging import service_of, show_sequence
from regie_chassis.process.clock import Clock
from regie_chassis.process.loops import Outages, PeriodicLoop, Wakeup, tolerate_outage

from regie_gateway.access.api_keys import ApiKey
from regie_gateway.access.authentication import Authenticator
from regie_gateway.events import event_log
from regie_gateway.events.event_log import LoggedEvent, Position

PAGE = 200
POLL = timedelta(milliseconds=400)  # for what other replicas have written
SOON = timedelta(milliseconds=20)  # a transaction elsewhere may hold the horizon back for a moment
SOON_TRIES = 10
LOOK_EVERY = timedelta(seconds=5)  # whether the key is still valid
HEARTBEAT = timedelta(seconds=15)

log = structlog.get_logger()


class TooManyStreams(TooManyRequests):
    """The key, or its workspace, holds as many streams as it may."""

    retry_after = 10  # seconds


@dataclass(eq=False, slots=True)
class Subscription:
    """One open stream."""

    key: ApiKey
    types: frozenset[str]
    position: Position
    news: asyncio.Event = field(default_factory=asyncio.Event)
    gone: bool = False
    counted: bool = True

    def leave(self) -> None:
        """Ends the stream: the client has hung up."""
        self.gone = True
        self.news.set()


class Broadcaster:
    """Holds the open streams of this process and wakes them; a loop of the service."""

    name = "broadcaster"

    def __init__(
        self,
        database: Database,
        authenticator: Authenticator,
        clock: Clock,
        *,
        streams_per_key: int,
        streams_per_workspace: int,
    ) -> None:
        self._database = database
        self._authenticator = authenticator
        self._clock = clock
        self._per_key = streams_per_key
        self._per_workspace = streams_per_workspace
        self._subscriptions: set[Subscription] = set()
        self._counts: Counter[UUID] = Counter()
        self._grown = Wakeup()
        self._horizon: int | None = None
        self._looks_soon = 0
        self._loop = PeriodicLoop(self.name, self._look, idle=self._pause, clock=clock, wake=self._grown)
        self._outages = Outages("event streams", clock)
        self._closed = False

    def wake(self) -> None:
        """Wakes the loop: this process has written to the log."""
        self._looks_soon = SOON_TRIES
        self._grown.set()

    async def subscribe(self, key: ApiKey, *, types: Collection[str], last_event_id: UUID | None) -> Subscription:
        """Returns a subscription from after an event, or from now on. Raises EventGone or TooManyStreams.

        It counts from the first moment. A caller that does not `stream` it to the end has to `release` it.
        """
        if self._counts[key.id] >= self._per_key:
            raise TooManyStreams(f"this key holds {self._per_key} open streams already; close one")
        if self._counts[key.workspace_id] >= self._per_workspace:
            raise TooManyStreams(f"this workspace holds {self._per_workspace} open streams already; close one")
        self._counts.update((key.id, key.workspace_id))
        try:
            async with self._database.reading() as session:
                if last_event_id is None:
                    position = await event_log.position_now(session)
                else:
                    position = await event_log.position_of(
                        session, workspace_id=key.workspace_id, event_id=last_event_id
                    )
        except BaseException:
            self._uncount(key)
            raise
        return Subscription(key, frozenset(types), position)

    def release(self, subscription: Subscription) -> None:
        """Gives a reader's place to another; repeatable."""
        self._subscriptions.discard(subscription)
        if subscription.counted:
            subscription.counted = False
            self._uncount(subscription.key)

    def _uncount(self, key: ApiKey) -> None:
        self._counts.subtract((key.id, key.workspace_id))
        for one in (key.id, key.workspace_id):
            if not self._counts[one]:
                del self._counts[one]

    async def stream(self, subscription: Subscription) -> AsyncGenerator[bytes, None]:
        """Yields the stream's chunks until the subscription leaves, its key is revoked or the service drains."""
        self._subscriptions.add(subscription)
        try:
            yield b"retry: 1000\n\n"
            async for chunk in self._chunks(subscription):
                yield chunk
        finally:
            self.release(subscription)

    async def _chunks(self, subscription: Subscription) -> AsyncGenerator[bytes, None]:
        sent_time = self._clock.now()
        while await self._may_go_on(subscription):
            subscription.news.clear()
            events: list[LoggedEvent] | None = None
            async with self._outages.waited_out(subscription.news):
                events = await self._next(subscription)
            if events is None:
                continue
            if events:
                sent_time = self._clock.now()
                yield b"".join(frame(event) for event in events)
                continue
            silence = self._clock.now() - sent_time
            if silence < HEARTBEAT:
                await self._clock.wait(subscription.news, min(LOOK_EVERY, HEARTBEAT - silence))
            else:
                sent_time = self._clock.now()
                yield b": still here\n\n"

    async def _next(self, subscription: Subscription) -> list[LoggedEvent]:
        async with self._database.reading() as session:
            # The loop's: what is beyond it wakes the subscription once the loop sees it.
            horizon = await event_log.find_horizon(session) if self._horizon is None else self._horizon
            page = await event_log.read_page(
                session,
                workspace_id=subscription.key.workspace_id,
                after=subscription.position,
                horizon=horizon,
                types=subscription.types,
                limit=PAGE,
            )
        subscription.position = page.position
        return list(page.events)

    async def _may_go_on(self, subscription: Subscription) -> bool:
        if self._closed or subscription.gone:
            return False
        with tolerate_outage("stream.key_not_checked"):
            return await self._authenticator.find(subscription.key.id) is not None
        return False  # nobody can tell whether the key is still good; the subscriber comes back

    async def run(self, stopping: asyncio.Event) -> None:
        """Wakes subscriptions with new events until `stopping` is set; then ends all streams."""
        self._closed = False  # a run that failed has closed it
        try:
            await self._loop.run(stopping)
        finally:
            self._closed = True
            for subscription in self._subscriptions:
                subscription.news.set()

    async def _look(self) -> None:
        """Wakes the subscriptions of workspaces with new events since the last look."""
        if not self._subscriptions:
            self._horizon = None
            return
        before = self._horizon
        async with self._database.reading() as session:
            horizon = await event_log.find_horizon(session, after=before)
            if before is None:
                grown = {subscription.key.workspace_id for subscription in self._subscriptions}
            else:
                grown = await event_log.read_workspaces(session, after=event_log.place_before(before), horizon=horizon)
        self._horizon = horizon
        for subscription in self._subscriptions:
            if subscription.key.workspace_id in grown:
                subscription.news.set()
        if grown:
            self._looks_soon = 0

    async def _pause(self) -> timedelta:
        self._looks_soon -= 1
        return SOON if self._looks_soon > 0 else POLL


def frame(event: LoggedEvent) -> bytes:
    """Returns one event as the stream carries it: CloudEvents 1.0 in JSON."""
    cloud = {
        "specversion": "1.0",
        "id": str(event.id),
        "source": f"/regie/{service_of(event.type)}",
        "type": event.type,
        "time": event.time,
        "subject": event.subject,
        "datacontenttype": "application/json",
        "data": orjson.Fragment(event.data),
    }
    if event.traceparent:
        cloud["traceparent"] = event.traceparent
    if event.source_sequence:
        cloud["sequence"] = show_sequence(event.source_sequence)
    body = orjson.dumps(cloud, option=orjson.OPT_UTC_Z)
    return b"id: %b\nevent: %b\ndata: %b\n\n" % (str(event.id).encode(), event.type.encode(), body)
