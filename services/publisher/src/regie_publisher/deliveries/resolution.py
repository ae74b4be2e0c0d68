"""Lets a person settle an unknown delivery.

The person decides whether the post is on the network. The network names the post at the address (ADR 0026): an address
has many spellings, people mistake one post for another, and a post recorded for the wrong delivery is missing at its
own, which is then sent again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

import structlog
from regie.ids.v1.prefixes import DELIVERY
from regie_chassis.boundary.errors import Conflict, NotFound, Unavailable, Unprocessable
from regie_chassis.boundary.ids import show_id
from regie_chassis.boundary.telemetry import current_traceparent
from regie_chassis.data.database import Database, is_transient
from regie_chassis.process.clock import Clock
from regie_networks.absence import QUIET
from regie_networks.addresses import without_margins
from regie_networks.bounds import MAX_URL, web_url
from regie_networks.contract import Connector
from regie_networks.draft import Remote
from regie_networks.errors import ConnectorError, FailureKind, NotNamed, Refused
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from regie_publisher.channels.accounts import Accounts
from regie_publisher.deliveries import decisions, outcomes
from regie_publisher.deliveries.delivery import (
    Cause,
    ClaimedDelivery,
    Outcome,
    RecordedOutcome,
    State,
    to_claimed_delivery,
)
from regie_publisher.deliveries.drafts import build_draft
from regie_publisher.deliveries.queries import Delivery, with_changes
from regie_publisher.deliveries.rivals import look_at
from regie_publisher.media.store import MediaStore

ASK_WITHIN = 8.0
"""Seconds for the network to name the post at an address; less than a caller waits."""

log = structlog.get_logger()


class DeliveryNotFound(NotFound):
    """The workspace has no such delivery."""


class DeliveryStateConflict(Conflict):
    """The delivery is not in the state that the call needs."""


class CallMayStillLand(Conflict):
    """The call may still take effect, so that nobody can know yet that the post is not there."""


class RemoteTaken(Conflict):
    """Another delivery holds the post at the address."""


class RemoteUrlRefused(Unprocessable):
    """The address is not that of the delivery's post, or no address that a browser may safely open."""


class RemoteUrlRequired(Unprocessable):
    """Later parts of the thread reply to this one, so that its post has to be known."""


class RemoteUrlNotChecked(Unavailable):
    """The network cannot name the post at the address now."""


class Resolver:
    """Resolves unknown deliveries by the answers of people. One for each process."""

    def __init__(
        self,
        database: Database,
        *,
        connectors: Mapping[str, Connector],
        accounts: Accounts,
        media_store: MediaStore,
        clock: Clock,
    ) -> None:
        self._database = database
        self._connectors = connectors
        self._accounts = accounts
        self._media_store = media_store
        self._clock = clock

    async def resolve_delivery(
        self, *, workspace_id: UUID, delivery_id: UUID, request_id: str, published: bool, remote_url: str
    ) -> Delivery:
        """Settles an unknown delivery by a person's answer: published, or to be sent again with the same keys.

        Before the end of the call's quiet time a person can see that a post is there, but cannot know that it will not
        be. In a thread, the segment in question is settled and the later segments follow.
        Repeatable with the same `request_id`. Raises DeliveryNotFound, DeliveryStateConflict, CallMayStillLand,
        RemoteTaken, RemoteUrlRefused, RemoteUrlRequired or RemoteUrlNotChecked.
        """
        given, remote_url = remote_url, without_margins(remote_url)
        if given and not web_url(remote_url):
            message = f"give the post's address as it is opened in a browser: http or https, up to {MAX_URL} characters"
            raise RemoteUrlRefused(message, field="remote_url")
        key = {"id": delivery_id, "workspace_id": workspace_id}
        async with self._database.reading() as session:
            row = _existing((await session.execute(_READ, key)).one_or_none())
        remote: Remote | None = None
        if published and not _is_repeated(row, request_id):
            remote = await self._remote_of(to_claimed_delivery(row), remote_url)
        now = self._clock.now()
        async with self._database.transaction() as session:
            locked = _existing((await session.execute(_LOCK, key)).one_or_none())
            if not _is_repeated(locked, request_id):
                if locked.remote_ids != row.remote_ids:
                    raise DeliveryStateConflict("another part of the thread is in question by now; read the post again")
                await _settle(session, locked, request_id=request_id, remote=remote, now=now)
            return (await with_changes(session, (await session.execute(_READ, key)).all()))[0]

    async def _remote_of(self, delivery: ClaimedDelivery, remote_url: str) -> Remote:
        if remote_url:
            return await self._name_post(delivery, remote_url)
        if len(delivery.remotes) + 1 < len(delivery.segment_keys):
            part = len(delivery.remotes) + 1
            message = f"parts of the thread follow part {part} and answer it; give the address of part {part}"
            raise RemoteUrlRequired(message, field="remote_url")
        return Remote("", "")

    async def _name_post(self, delivery: ClaimedDelivery, remote_url: str) -> Remote:
        connector = self._connectors.get(delivery.network)
        if connector is None:
            raise RemoteUrlNotChecked(f"{delivery.network} is not a network here; {_WITHOUT}", field="remote_url")
        try:
            async with asyncio.timeout(ASK_WITHIN):
                await self._accounts.open([delivery.channel_id])  # it may have been disconnected since it was used
                draft = await build_draft(delivery, accounts=self._accounts, media_store=self._media_store)
                look = look_at(self._database, delivery.channel_id, since=delivery.compose_time)
                return await connector.named(draft, len(delivery.remotes), remote_url, look)
        except NotNamed as error:
            async with self._database.reading() as session:
                taken = await _taken(session, delivery, error.remote_id) if error.remote_id else None
            message = f"{error}; give the address of this delivery's own post"
            raise taken or RemoteUrlRefused(message, field="remote_url") from error
        except (ConnectorError, TimeoutError) as error:
            words = "it does not answer in time" if isinstance(error, TimeoutError) else decisions.error_text(error)
            if isinstance(error, Refused) and error.kind is FailureKind.AUTH_EXPIRED and "connect" not in words:
                words = f"{words}; connect the channel again"
            message = f"the network cannot be asked which post this is ({words}); try again later, or {_WITHOUT}"
            raise RemoteUrlNotChecked(message, field="remote_url") from error
        except Exception as error:  # broad: a person waits, and gets an answer in any case
            if is_transient(error):
                raise
            log.error("delivery.address_not_checked", delivery=show_id(DELIVERY, delivery.id), exc_info=error)
            message = f"the address could not be checked, which is an error of ours; {_WITHOUT}"
            raise RemoteUrlNotChecked(message, field="remote_url") from error


async def _settle(session: AsyncSession, row: Any, *, request_id: str, remote: Remote | None, now: datetime) -> None:
    if remote is None and row.quiet_end_time is not None and now < row.quiet_end_time:
        raise CallMayStillLand(
            f"the call may still take effect until {row.quiet_end_time:%Y-%m-%d %H:%M:%S} UTC; look again after that, "
            "and say then that it is not published"
        )
    # The fence is raised first, so that a lookup under way writes nothing after the person's answer.
    rows = await session.execute(_TAKE, {"id": row.id, "request_id": request_id})
    delivery = to_claimed_delivery(rows.one())
    outcome = _decide(delivery, remote, now)
    recorded = RecordedOutcome(delivery, outcome, current_traceparent() or row.traceparent, expected=(State.UNKNOWN,))
    [written] = await outcomes.record(session, [recorded], now=now)
    if not written:
        assert remote is not None
        raise await _taken(session, delivery, remote.id) or DeliveryStateConflict(
            "the delivery was settled meanwhile; read it"
        )


def _decide(delivery: ClaimedDelivery, remote: Remote | None, now: datetime) -> Outcome:
    if remote is None:
        return decisions.decide_not_published(now)
    return decisions.decide_published(
        remote, delivery, now, done=len(delivery.remotes), cause=Cause.PERSON, quiet=QUIET
    )


async def _taken(session: AsyncSession, delivery: ClaimedDelivery, remote_id: str) -> RemoteTaken | None:
    """Returns the error for a post that a delivery holds already; None if none does."""
    rows = await session.execute(_HOLDER, {"channel_id": delivery.channel_id, "remote_id": remote_id})
    holder = rows.one_or_none()
    if holder is None:
        return None
    if holder.delivery_id == delivery.id:
        part = f"part {holder.segment + 1}, which is known to be out; give the one of part {len(delivery.remotes) + 1}"
        return RemoteTaken(f"this is the address of {part}", field="remote_url")
    whose = f", {show_id(DELIVERY, holder.delivery_id)}" if holder.workspace_id == delivery.workspace_id else ""
    message = f"this is the address of another delivery's post{whose}; give the one of this delivery's own post"
    return RemoteTaken(message, field="remote_url")


def _is_repeated(row: Any, request_id: str) -> bool:
    """Returns whether the call was made before. Raises DeliveryStateConflict if there is nothing to settle."""
    if request_id and row.resolve_request_id == request_id:
        return True
    if row.state != State.UNKNOWN:
        raise DeliveryStateConflict(f"the delivery is {row.state}; only an unknown one can be settled")
    return False


def _existing(row: Any) -> Any:
    if row is None:
        raise DeliveryNotFound("there is no such delivery in this workspace")
    return row


_WITHOUT = "leave remote_url out, which is final and shows no address"

_READ = text(
    "SELECT *, CAST(handles AS text) AS handles_text FROM delivery WHERE id = :id AND workspace_id = :workspace_id"
)

_LOCK = text(f"{_READ.text} FOR UPDATE")

_TAKE = text(
    "UPDATE delivery SET fence = fence + 1, resolve_request_id = :request_id"
    " WHERE id = :id RETURNING *, CAST(handles AS text) AS handles_text"
)

_HOLDER = text(
    """
    SELECT remote.delivery_id, remote.segment, delivery.workspace_id FROM remote
    JOIN channel AS own ON (remote.network, remote.account) = (own.network, own.server_url || ' ' || own.account)
    JOIN delivery ON delivery.id = remote.delivery_id
    WHERE own.id = :channel_id AND remote.remote_id = :remote_id
    """
)
