"""A publisher without its loops: tests run them step by step, under a clock that they move."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol, TypeVar
from uuid import UUID

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from obstore.store import MemoryStore, ObjectStore
from regie.ids.v1.prefixes import CHANNEL, POST
from regie.publisher.events.v1 import publisher_events_pb2
from regie.scheduler.events.v1.scheduler_events_pb2 import (
    DueAttachment,
    DueSegment,
    DueVariant,
    PostCancelled,
    PostDue,
)
from regie_chassis.boundary.ids import new_id, show_id
from regie_chassis.data.database import Database
from regie_chassis.data.upload_area import UploadArea
from regie_chassis.events.messaging import Event
from regie_chassis.process.clock import Clock
from regie_networks.errors import ConnectorError
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from regie_publisher.app import build_workers
from regie_publisher.channels.accounts import MAX_CHANNELS, Accounts
from regie_publisher.channels.connecting import connect_channel
from regie_publisher.channels.sealing import Keyring
from regie_publisher.deliveries.attempts import Attempts
from regie_publisher.deliveries.cancellation import on_post_cancelled
from regie_publisher.deliveries.claims import claim_pending, find_due
from regie_publisher.deliveries.creation import on_post_due
from regie_publisher.deliveries.delivery import ClaimedDelivery
from regie_publisher.deliveries.drafts import build_draft
from regie_publisher.deliveries.lease_rescue import rescue_expired_leases
from regie_publisher.deliveries.outcome_writer import OutcomeWriter
from regie_publisher.deliveries.queries import Delivery
from regie_publisher.deliveries.reconciler import Reconciler
from regie_publisher.deliveries.resolution import Resolver
from regie_publisher.deliveries.worker import Worker
from regie_publisher.fairness.hosts import Hosts
from regie_publisher.fairness.sharing import Limits
from regie_publisher.fairness.slots import Slots
from regie_publisher.media.images.pool import PicturePool
from regie_publisher.media.images.process import Limits as PictureLimits
from regie_publisher.media.media import Media
from regie_publisher.media.store import MediaStore
from regie_publisher.media.uploads import Uploads
from regie_publisher.metric_collection.collector import MetricCollector
from regie_publisher.testing.network import FakeConnector

TABLES = (
    "delivery",
    "attempt",
    "delivery_change",
    "cancellation",
    "scheduled_collection",
    "remote",
    "outbox",
    "channel",
)
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

EventT = TypeVar("EventT", bound=Message)


@dataclass(slots=True)
class PublisherHarness:
    """One process of the publisher, whose loops a test runs step by step."""

    database: Database
    connector: FakeConnector
    clock: Clock
    keyring: Keyring
    worker: Worker
    reconciler: Reconciler
    collector: MetricCollector
    resolver: Resolver
    attempts: Attempts
    accounts: Accounts
    writer: OutcomeWriter
    media_store: MediaStore
    pictures: PicturePool
    objects: ObjectStore
    upload_area: UploadArea
    uploads: Uploads
    workspace_id: UUID

    async def upload(self, data: bytes, *, declared_type: str = "", workspace_id: UUID | None = None) -> Media:
        """Uploads a file as the gateway does and returns its medium."""
        owner = workspace_id or self.workspace_id
        async with self.upload_area.receive(_body(data), upload_id=new_id(), workspace_id=owner) as upload:
            return await self.uploads.complete_upload(upload, declared_type=declared_type, now=self.clock.now())

    async def channel(self, handle: str = "ada") -> UUID:
        """Connects an account and returns its channel."""
        channel = await connect_channel(
            self.database,
            {"fake": self.connector},
            self.keyring,
            workspace_id=self.workspace_id,
            network="fake",
            server_url="",
            credentials={"access_token": f"fake-{handle}"},
            allowed_hosts=("fake.example:443",),
            now=self.clock.now(),
        )
        return channel.id

    def due(
        self,
        *channels: UUID,
        texts: tuple[str, ...] = ("hello",),
        post_id: UUID | None = None,
        revision: int = 1,
        attachments: tuple[str, ...] = (),
        miss_after: timedelta = timedelta(minutes=10),
        workspace_id: UUID | None = None,
    ) -> Event[PostDue]:
        """Returns a PostDue of now."""
        publish_time, miss_time = Timestamp(), Timestamp()
        publish_time.FromDatetime(self.clock.now())
        miss_time.FromDatetime(self.clock.now() + miss_after)
        attached = [DueAttachment(media_id=media_id, alt_text="a picture") for media_id in attachments]
        segments = [DueSegment(text=one, attachments=attached if at == 0 else []) for at, one in enumerate(texts)]
        message = PostDue(
            post_id=show_id(POST, post_id or new_id()),
            revision=revision,
            publish_time=publish_time,
            miss_time=miss_time,
            variants=[
                DueVariant(channel_id=show_id(CHANNEL, channel), segments=segments, language="en")
                for channel in channels
            ],
        )
        return Event(new_id(), workspace_id or self.workspace_id, self.clock.now(), message, TRACEPARENT)

    async def receive(self, *events: Event[PostDue]) -> None:
        """Handles events in one transaction, as the consumer does."""
        async with self.database.transaction() as session:
            await self.receive_in(session, *events)

    async def receive_in(self, session: AsyncSession, *events: Event[PostDue]) -> None:
        """Handles events in the caller's transaction."""
        await on_post_due(
            session,
            events,
            connectors={"fake": self.connector},
            clock=self.clock,
            wake=self.worker.wake.set,
        )

    async def cancel(self, event: Event[PostDue], *, revision: int | None = None) -> None:
        """Handles the cancellation of the event's post."""
        message = PostCancelled(post_id=event.message.post_id, revision=revision or event.message.revision)
        cancelled = Event(new_id(), event.workspace_id, self.clock.now(), message, TRACEPARENT)
        async with self.database.transaction() as session:
            await on_post_cancelled(session, [cancelled], clock=self.clock)

    async def work(self) -> None:
        """Claims due deliveries and finishes their attempts."""
        while True:
            if await self.worker.claim():
                continue
            await self.worker.finish()
            if not await self.worker.claim():
                return

    async def settle(self, advance: Callable[[timedelta], Awaitable[None]]) -> None:
        """Looks up unknown deliveries when they are due, until a call may be made or a person has to decide."""
        while open_ended := [row for row in await self.rows() if row.state == "unknown" and row.next_action_time]:
            first = min(row.next_action_time for row in open_ended)
            await advance(max(first - self.clock.now(), timedelta(0)))
            await self.reconciler.find_unknown()
        waiting = [row.next_action_time for row in await self.rows() if row.state == "pending"]
        await advance(max([time - self.clock.now() for time in waiting], default=timedelta(0)))

    async def claim_only(self, session: AsyncSession) -> list[ClaimedDelivery]:
        """Claims in the session and starts nothing, like a worker that ends at once."""
        slots, now = Slots(Limits(50, 50), Hosts(first_window=50)), self.clock.now()
        choice = slots.share_out(await find_due(session, slots=slots, now=now), now)
        return await claim_pending(session, [*choice.taken, *choice.late], worker="dead", now=now)

    async def attempt(self, claimed: ClaimedDelivery) -> None:
        """Makes an attempt at a claimed delivery."""
        await self.accounts.open([claimed.channel_id])
        await self.attempts.make(claimed)

    async def publish_only(self, claimed: ClaimedDelivery) -> None:
        """Makes the call and drops the answer."""
        await self.accounts.open([claimed.channel_id])
        draft = await build_draft(claimed, accounts=self.accounts, media_store=self.media_store)
        await self.connector.publish(draft, len(claimed.remotes))

    async def publish_only_quietly(self, claimed: ClaimedDelivery) -> None:
        """Makes the call and drops its answer or error."""
        with suppress(ConnectorError, RuntimeError):
            await self.publish_only(claimed)

    async def forget(self) -> None:
        """Starts over: no deliveries, an empty network."""
        async with self.database.transaction() as session:
            await session.execute(text(f"TRUNCATE {', '.join(TABLES)}"))
        self.connector.reset()

    async def resolve(
        self, *, published: bool, remote_url: str = "", request_id: str = "r", delivery_id: UUID | None = None
    ) -> Delivery:
        """Resolves a delivery by a person's answer, by default the only unknown one."""
        if delivery_id is None:
            [unknown] = [row for row in await self.rows() if row.state == "unknown"]
            delivery_id = unknown.id
        return await self.resolver.resolve_delivery(
            workspace_id=self.workspace_id,
            delivery_id=delivery_id,
            request_id=request_id,
            published=published,
            remote_url=remote_url,
        )

    async def rescue(self) -> int:
        """Takes back expired leases."""
        async with self.database.transaction() as session:
            return await rescue_expired_leases(session, quiets={"fake": self.connector.quiet}, now=self.clock.now())

    async def rows(self, table: str = "delivery", order: str = "id") -> list[Any]:
        """Returns a whole table."""
        async with self.database.reading() as session:
            return list((await session.execute(text(f"SELECT * FROM {table} ORDER BY {order}"))).all())

    async def states(self) -> list[str]:
        """Returns the states of all deliveries."""
        return [row.state for row in await self.rows()]

    async def changes(self) -> list[tuple[str, str]]:
        """Returns the history of all deliveries as (state, cause)."""
        return [(row.state, row.cause) for row in await self.rows("delivery_change")]

    async def events(self, kind: type[EventT]) -> list[EventT]:
        """Returns the staged events of one kind, in order."""
        return [message for message in await self.all_events() if isinstance(message, kind)]

    async def all_events(self) -> list[Message]:
        """Returns the staged events, in order."""
        rows = await self.rows("outbox")
        return [getattr(publisher_events_pb2, row.type.rsplit(".", 1)[-1]).FromString(row.payload) for row in rows]


class NewHarness(Protocol):
    """Makes replicas of the publisher; the fixture `new_harness` is one."""

    def __call__(
        self,
        *,
        own_clock: Clock | None = None,
        in_flight: int = 50,
        channel_in_flight: int = 50,
        on: Database | None = None,
        max_channels: int = MAX_CHANNELS,
    ) -> PublisherHarness: ...


def open_harness(
    database: Database,
    connector: FakeConnector,
    clock: Clock,
    *,
    keyring: Keyring,
    workspace_id: UUID,
    name: str,
    in_flight: int = 50,
    channel_in_flight: int = 50,
    max_channels: int = MAX_CHANNELS,
    hosts: Hosts | None = None,
) -> PublisherHarness:
    """Returns a replica of the publisher on this database; several of them are several processes."""
    connector.now = clock.now
    objects = MemoryStore()
    pictures = PicturePool(limits=PictureLimits(cpu_seconds=30, wall_seconds=60))  # a busy machine is no reason to fail
    workers = build_workers(
        database,
        connectors={"fake": connector},
        keyring=keyring,
        media_store=MediaStore(database, objects, pictures),
        hosts=hosts or Hosts(first_window=50),
        clock=clock,
        name=name,
        in_flight=in_flight,
        channel_in_flight=channel_in_flight,
        max_channels=max_channels,
    )
    return PublisherHarness(
        database,
        connector,
        clock,
        keyring,
        workers.worker,
        workers.reconciler,
        workers.collector,
        workers.resolver,
        workers.attempts,
        workers.accounts,
        workers.writer,
        workers.media_store,
        pictures,
        objects,
        UploadArea(objects),
        Uploads(database, objects, pictures),
        workspace_id,
    )


async def _body(data: bytes) -> AsyncIterator[bytes]:
    yield data
