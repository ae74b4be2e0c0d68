"""One process's worth of the publisher without its loops: tests turn them by hand, under a clock that they move."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from obstore.store import MemoryStore
from regie.publisher.events.v1 import publisher_events_pb2 as said
from regie.scheduler.events.v1.scheduler_events_pb2 import (
    DueAttachment,
    DueSegment,
    DueVariant,
    PostCancelled,
    PostDue,
)
from regie_chassis.clock import Clock
from regie_chassis.database import Database
from regie_chassis.ids import CHANNEL, POST, new_id, show_id
from regie_chassis.messaging import Event
from regie_networks.errors import ConnectorError
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from regie_publisher.accounts import MAX_CHANNELS, Accounts
from regie_publisher.channels import connect_channel
from regie_publisher.deliveries.attempts import Attempts
from regie_publisher.deliveries.claims import claim_pending, find_due
from regie_publisher.deliveries.delivery import Held
from regie_publisher.deliveries.drafts import draft_of
from regie_publisher.deliveries.intake import on_post_cancelled, on_post_due
from regie_publisher.deliveries.ledger import Ledger
from regie_publisher.deliveries.pursuit import Pursuit
from regie_publisher.deliveries.resolving import Resolver
from regie_publisher.deliveries.sweeping import sweep
from regie_publisher.deliveries.timeline import Delivery
from regie_publisher.deliveries.worker import Worker
from regie_publisher.hosts import Hosts
from regie_publisher.media import Library
from regie_publisher.observations import Observer
from regie_publisher.pictures.pool import PicturePool
from regie_publisher.pictures.process import Limits as PictureLimits
from regie_publisher.sealing import Keyring
from regie_publisher.shares import Limits, Slots
from regie_publisher.testing.network import FakeConnector

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@dataclass(slots=True)
class Desk:
    """One process's worth of the publisher, its loops turned by hand."""

    database: Database
    connector: FakeConnector
    clock: Clock
    keyring: Keyring
    worker: Worker
    pursuit: Pursuit
    observer: Observer
    resolver: Resolver
    attempts: Attempts
    accounts: Accounts
    ledger: Ledger
    library: Library
    pictures: PicturePool
    workspace_id: UUID

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
        attached = [DueAttachment(media_id=one, alt_text="a picture") for one in attachments]
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
        """Handles events in a transaction of the caller's."""
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
        """Claims what is due and finishes it."""
        while True:
            if await self.worker.claim():
                continue
            await self.worker.finish()
            if not await self.worker.claim():
                return

    async def settle(self, advance: Callable[[timedelta], Awaitable[None]]) -> None:
        """Looks for what is unknown, whenever it is time, until a call may be made or only a person can tell."""
        while open_ended := [row for row in await self.rows() if row.state == "unknown" and row.act_time]:
            first = min(row.act_time for row in open_ended)
            await advance(max(first - self.clock.now(), timedelta(0)))
            await self.pursuit.find_unknown()
        waiting = [row.act_time for row in await self.rows() if row.state == "pending"]
        await advance(max([time - self.clock.now() for time in waiting], default=timedelta(0)))

    async def claim_only(self, session: AsyncSession) -> list[Held]:
        """Claims in the session and begins nothing, as a worker that ends at once."""
        slots, now = Slots(Limits(50, 50), Hosts(first_window=50)), self.clock.now()
        choice = slots.share_out(await find_due(session, slots=slots, now=now), now)
        return await claim_pending(session, [*choice.taken, *choice.late], worker="dead", now=now)

    async def attempt(self, held: Held) -> None:
        """Makes an attempt at a delivery that was claimed."""
        await self.accounts.open([held.channel_id])
        await self.attempts.make(held)

    async def publish_only(self, held: Held) -> None:
        """Makes the call and forgets the answer."""
        await self.accounts.open([held.channel_id])
        draft = await draft_of(held, accounts=self.accounts, library=self.library)
        await self.connector.publish(draft, len(held.remotes))

    async def publish_only_quietly(self, held: Held) -> None:
        """Makes the call and forgets whatever came of it."""
        with suppress(ConnectorError, RuntimeError):
            await self.publish_only(held)

    async def forget(self) -> None:
        """Begins anew: no deliveries, an empty network."""
        async with self.database.transaction() as session:
            await session.execute(
                text("TRUNCATE delivery, attempt, delivery_change, cancellation, poll, remote, outbox, channel")
            )
        self.connector.reset()

    async def resolve(
        self, *, published: bool, remote_url: str = "", request_id: str = "r", delivery_id: UUID | None = None
    ) -> Delivery:
        """Settles a delivery by a person's word; the one that is unknown where none is named."""
        if delivery_id is None:
            [unknown] = [row for row in await self.rows() if row.state == "unknown"]
            delivery_id = unknown.id
        return await self.resolver.resolve(
            workspace_id=self.workspace_id,
            delivery_id=delivery_id,
            request_id=request_id,
            published=published,
            remote_url=remote_url,
        )

    async def sweep(self) -> int:
        """Takes back expired leases."""
        async with self.database.transaction() as session:
            return await sweep(session, quiets={"fake": self.connector.quiet}, now=self.clock.now())

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

    async def said(self, kind: type[Message] | None = None) -> list[Any]:
        """Returns the staged events in order, of one kind if it is given."""
        rows = await self.rows("outbox")
        messages = [getattr(said, row.type.rsplit(".", 1)[-1]).FromString(row.payload) for row in rows]
        return [message for message in messages if kind is None or isinstance(message, kind)]


NewDesk = Callable[..., Desk]


def open_desk(
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
) -> Desk:
    """Returns a replica of the publisher on this database; several of them are several processes."""
    connector.now = clock.now
    connectors = {"fake": connector}
    accounts = Accounts(database, keyring, clock, worker=name, max_channels=max_channels)
    pictures = PicturePool(limits=PictureLimits(cpu_seconds=30, wall_seconds=60))  # a busy machine is no reason to fail
    library = Library(database, MemoryStore(), pictures)
    ledger = Ledger(database, clock)
    attempts = Attempts(connectors=connectors, accounts=accounts, library=library, ledger=ledger, clock=clock)
    hosts = hosts or Hosts(first_window=50)
    worker = Worker(
        database,
        attempts,
        accounts,
        hosts,
        clock,
        worker=name,
        in_flight=in_flight,
        channel_in_flight=channel_in_flight,
    )
    pursuit = Pursuit(
        database,
        connectors=connectors,
        accounts=accounts,
        library=library,
        ledger=ledger,
        clock=clock,
        worker=name,
        wake=worker.wake.set,
        hosts=hosts,
    )
    observer = Observer(database, connectors=connectors, accounts=accounts, hosts=hosts, clock=clock)
    resolver = Resolver(database, connectors=connectors, accounts=accounts, library=library, clock=clock)
    return Desk(
        database,
        connector,
        clock,
        keyring,
        worker,
        pursuit,
        observer,
        resolver,
        attempts,
        accounts,
        ledger,
        library,
        pictures,
        workspace_id,
    )
