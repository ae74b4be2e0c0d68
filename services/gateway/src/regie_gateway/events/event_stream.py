"""The outward stream: server-sent events of one workspace, from where the reader left off.

Each reader pulls its own pages from the log, so that a slow one holds nothing but its own connection. One loop for
the whole process looks whether the log has grown and wakes those whom it concerns.
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
from regie_chassis.clock import Clock
from regie_chassis.database import Database, is_transient
from regie_chassis.errors import TooManyRequests
from regie_chassis.messaging import service_of

from regie_gateway import outward
from regie_gateway.api_keys import ApiKey
from regie_gateway.authentication import Authenticator
from regie_gateway.outward import OutwardEvent, Position

PAGE = 200
POLL = timedelta(milliseconds=400)  # for what other replicas have written
SOON = timedelta(milliseconds=20)  # a transaction elsewhere may hold the horizon back for a moment
SOON_TRIES = 10
LOOK_EVERY = timedelta(seconds=5)  # whether the key is still valid
HEARTBEAT = timedelta(seconds=15)
OUTAGE_PAUSE = timedelta(seconds=1)

log = structlog.get_logger()


class TooManyStreams(TooManyRequests):
    """The key, or its workspace, holds as many streams as it may."""

    retry_after = 10  # seconds


@dataclass(eq=False, slots=True)
class Reader:
    """One open stream."""

    key: ApiKey
    types: frozenset[str]
    position: Position
    news: asyncio.Event = field(default_factory=asyncio.Event)
    gone: bool = False
    counted: bool = True

    def leave(self) -> None:
        """Ends the stream: the other side has hung up."""
        self.gone = True
        self.news.set()


class Feed:
    """Knows the open streams of this process and wakes them; a loop of the service."""

    name = "outward feed"

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
        self._readers: set[Reader] = set()
        self._counts: Counter[UUID] = Counter()
        self._grown = asyncio.Event()
        self._closed = False

    def wake(self) -> None:
        """Tells that this process has written to the log."""
        self._grown.set()

    async def open_reader(self, key: ApiKey, *, types: Collection[str], last_event_id: UUID | None) -> Reader:
        """Returns a reader from after an event, or from now on. Raises EventGone or TooManyStreams.

        It counts from the first moment; whoever does not `read` it to the end has to `release` it.
        """
        if self._counts[key.id] >= self._per_key:
            raise TooManyStreams(f"this key holds {self._per_key} open streams already; close one")
        if self._counts[key.workspace_id] >= self._per_workspace:
            raise TooManyStreams(f"this workspace holds {self._per_workspace} open streams already; close one")
        self._counts.update((key.id, key.workspace_id))
        try:
            async with self._database.reading() as session:
                if last_event_id is None:
                    position = await outward.position_now(session)
                else:
                    position = await outward.position_of(session, workspace_id=key.workspace_id, event_id=last_event_id)
        except BaseException:
            self._uncount(key)
            raise
        return Reader(key, frozenset(types), position)

    def release(self, reader: Reader) -> None:
        """Gives a reader's place to another; repeatable."""
        self._readers.discard(reader)
        if reader.counted:
            reader.counted = False
            self._uncount(reader.key)

    def _uncount(self, key: ApiKey) -> None:
        self._counts.subtract((key.id, key.workspace_id))
        for one in (key.id, key.workspace_id):
            if not self._counts[one]:
                del self._counts[one]

    async def read(self, reader: Reader) -> AsyncGenerator[bytes, None]:
        """Yields the stream's chunks until the reader leaves, its key is revoked or the service drains."""
        self._readers.add(reader)
        try:
            yield b"retry: 1000\n\n"
            async for chunk in self._chunks(reader):
                yield chunk
        finally:
            self.release(reader)

    async def _chunks(self, reader: Reader) -> AsyncGenerator[bytes, None]:
        said_time = self._clock.now()
        while await self._may_go_on(reader):
            reader.news.clear()
            try:
                events = await self._next(reader)
            except Exception as error:
                if not is_transient(error):
                    raise
                log.warning("stream.waits_for_database", error=type(error).__name__)
                await self._clock.wait(reader.news, OUTAGE_PAUSE)
                continue
            if events:
                said_time = self._clock.now()
                yield b"".join(frame(event) for event in events)
            elif not await self._clock.wait(reader.news, LOOK_EVERY) and self._clock.now() - said_time >= HEARTBEAT:
                said_time = self._clock.now()
                yield b": still here\n\n"

    async def _next(self, reader: Reader) -> list[OutwardEvent]:
        async with self._database.reading() as session:
            page = await outward.read_page(
                session,
                workspace_id=reader.key.workspace_id,
                after=reader.position,
                types=reader.types,
                limit=PAGE,
            )
        reader.position = page.position
        return list(page.events)

    async def _may_go_on(self, reader: Reader) -> bool:
        if self._closed or reader.gone:
            return False
        try:
            return await self._authenticator.find(reader.key.id) is not None
        except Exception as error:
            if not is_transient(error):
                raise
            return False  # nobody can tell whether the key is still good; the reader comes back

    async def run(self, stopping: asyncio.Event) -> None:
        """Wakes readers whose log has grown, until told to stop; then ends all streams."""
        stop = asyncio.create_task(stopping.wait())
        stop.add_done_callback(lambda _: self._grown.set())
        position: Position | None = None
        tries = 0
        self._closed = False  # a run that failed has closed it
        try:
            while not stopping.is_set():
                position, found = await self._look(position)
                tries = 0 if found else tries - 1
                if await self._clock.wait(self._grown, SOON if tries > 0 else POLL):
                    self._grown.clear()
                    tries = SOON_TRIES
        finally:
            stop.cancel()
            self._closed = True
            for reader in self._readers:
                reader.news.set()

    async def _look(self, position: Position | None) -> tuple[Position | None, bool]:
        if not self._readers:
            return None, False
        try:
            async with self._database.reading() as session:
                if position is None:
                    position = await outward.position_now(session)
                    grown = {reader.key.workspace_id for reader in self._readers}
                else:
                    grown, position = await outward.read_workspaces(session, after=position)
        except Exception as error:
            if not is_transient(error):
                raise
            return position, False
        for reader in self._readers:
            if reader.key.workspace_id in grown:
                reader.news.set()
        return position, bool(grown)


def frame(event: OutwardEvent) -> bytes:
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
    body = orjson.dumps(cloud, option=orjson.OPT_UTC_Z)
    return b"id: %b\nevent: %b\ndata: %b\n\n" % (str(event.id).encode(), event.type.encode(), body)
