"""Lets a person settle a delivery that only a person can know.

A person's word about *whether* a post is there is taken. Of *which* post it is, the network is asked: an address has
many spellings, people mistake one post for another, and a post that is booked for the wrong delivery is missed at its
own, which is then sent again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

import structlog
from regie_chassis.clock import Clock
from regie_chassis.database import Database, is_transient
from regie_chassis.errors import Conflict, NotFound, Unavailable, Unprocessable
from regie_chassis.ids import DELIVERY, show_id
from regie_chassis.telemetry import current_traceparent
from regie_networks.absence import QUIET
from regie_networks.addresses import without_margins
from regie_networks.bounds import MAX_URL, web_url
from regie_networks.contract import Connector
from regie_networks.draft import Remote
from regie_networks.errors import ConnectorError, FailureKind, NotNamed, Refused
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from regie_publisher.accounts import Accounts
from regie_publisher.deliveries import judging, outcomes
from regie_publisher.deliveries.claims import held_of
from regie_publisher.deliveries.delivery import Cause, Held, Note, Outcome, State
from regie_publisher.deliveries.drafts import draft_of
from regie_publisher.deliveries.others import look_at
from regie_publisher.deliveries.timeline import Delivery, with_changes
from regie_publisher.media import Library

ASK_WITHIN = 8.0
"""Seconds for the network to say which post is at an address; less than a caller waits."""

log = structlog.get_logger()


class DeliveryNotFound(NotFound):
    """There is no such delivery in the workspace."""


class DeliveryStateConflict(Conflict):
    """The delivery is not in the state that the call is for."""


class CallMayStillLand(Conflict):
    """Nobody can know yet that the post is not there: the call may still be on its way."""


class RemoteTaken(Conflict):
    """The address is that of another delivery's post."""


class RemoteUrlRefused(Unprocessable):
    """The address is not that of the delivery's post, or none that a browser may safely open."""


class RemoteUrlRequired(Unprocessable):
    """Other parts of the thread hang on this one, so that it has to be known which post it is."""


class RemoteUrlNotChecked(Unavailable):
    """The network cannot be asked now which post is at the address."""


class Resolver:
    """Takes people's words. One for each process."""

    def __init__(
        self,
        database: Database,
        *,
        connectors: Mapping[str, Connector],
        accounts: Accounts,
        library: Library,
        clock: Clock,
    ) -> None:
        self._database = database
        self._connectors = connectors
        self._accounts = accounts
        self._library = library
        self._clock = clock

    async def resolve(
        self, *, workspace_id: UUID, delivery_id: UUID, request_id: str, published: bool, remote_url: str
    ) -> Delivery:
        """Settles an unknown delivery by a person's word: published, or to be sent again with the same keys.

        Before its call's quiet time is over a person can see that a post is there, and cannot know that it will not be.
        Of a thread, the part in question is settled and the parts after it follow.
        Repeatable with the same `request_id`. Raises DeliveryNotFound, DeliveryStateConflict, CallMayStillLand,
        RemoteTaken, RemoteUrlRefused, RemoteUrlRequired or RemoteUrlNotChecked.
        """
        given, remote_url = remote_url, without_margins(remote_url)
        if given and not web_url(remote_url):
            message = f"give the post's address as it is opened in a browser: http or https, up to {MAX_URL} characters"
            raise RemoteUrlRefused(message, field="remote_url")
        key = {"id": delivery_id, "workspace_id": workspace_id}
        async with self._database.reading() as session:
            row = _found((await session.execute(_READ, key)).one_or_none())
        word: Remote | None = None
        if published and not _was_taken(row, request_id):
            word = await self._word(held_of(row), remote_url)
        now = self._clock.now()
        async with self._database.transaction() as session:
            locked = _found((await session.execute(_LOCK, key)).one_or_none())
            if not _was_taken(locked, request_id):
                if locked.remote_ids != row.remote_ids:
                    raise DeliveryStateConflict("another part of the thread is in question by now; read the post again")
                await _settle(session, locked, request_id=request_id, word=word, now=now)
            return (await with_changes(session, (await session.execute(_READ, key)).all()))[0]

    async def _word(self, held: Held, remote_url: str) -> Remote:
        if remote_url:
            return await self._ask(held, remote_url)
        if len(held.remotes) + 1 < len(held.segment_keys):
            part = len(held.remotes) + 1
            message = f"parts of the thread follow part {part} and answer it; give the address of part {part}"
            raise RemoteUrlRequired(message, field="remote_url")
        return Remote("", "")

    async def _ask(self, held: Held, remote_url: str) -> Remote:
        connector = self._connectors.get(held.network)
        if connector is None:
            raise RemoteUrlNotChecked(f"{held.network} is not a network here; {_WITHOUT}", field="remote_url")
        try:
            async with asyncio.timeout(ASK_WITHIN):
                await self._accounts.open([held.channel_id])  # it may have been disconnected since it was used
                draft = await draft_of(held, accounts=self._accounts, library=self._library)
                look = look_at(self._database, held.channel_id, since=held.compose_time)
                return await connector.named(draft, len(held.remotes), remote_url, look)
        except NotNamed as error:
            async with self._database.reading() as session:
                taken = await _taken(session, held, error.remote_id) if error.remote_id else None
            message = f"{error}; give the address of this delivery's own post"
            raise taken or RemoteUrlRefused(message, field="remote_url") from error
        except (ConnectorError, TimeoutError) as error:
            words = "it does not answer in time" if isinstance(error, TimeoutError) else judging.words_of(error)
            if isinstance(error, Refused) and error.kind is FailureKind.AUTH_EXPIRED and "connect" not in words:
                words = f"{words}; connect the channel again"
            message = f"the network cannot be asked which post this is ({words}); try again later, or {_WITHOUT}"
            raise RemoteUrlNotChecked(message, field="remote_url") from error
        except Exception as error:  # broad: a person waits, and gets an answer in any case
            if is_transient(error):
                raise
            log.error("delivery.address_not_checked", delivery=show_id(DELIVERY, held.id), exc_info=error)
            message = f"the address could not be checked, which is an error of ours; {_WITHOUT}"
            raise RemoteUrlNotChecked(message, field="remote_url") from error


async def _settle(session: AsyncSession, row: Any, *, request_id: str, word: Remote | None, now: datetime) -> None:
    if word is None and row.quiet_end_time is not None and now < row.quiet_end_time:
        raise CallMayStillLand(
            f"the call may still take effect until {row.quiet_end_time:%Y-%m-%d %H:%M:%S} UTC; look again after that, "
            "and say then that it is not published"
        )
    # The fence is raised first, so that a find on its way writes nothing after the person has spoken.
    rows = await session.execute(_TAKE, {"id": row.id, "request_id": request_id})
    held = held_of(rows.one())
    outcome = _outcome(held, word, now)
    note = Note(held, outcome, current_traceparent() or row.traceparent, expected=(State.UNKNOWN,))
    [kept] = await outcomes.record(session, [note], now=now)
    if not kept:
        assert word is not None
        raise await _taken(session, held, word.id) or DeliveryStateConflict(
            "the delivery was settled meanwhile; read it"
        )


def _outcome(held: Held, word: Remote | None, now: datetime) -> Outcome:
    if word is None:
        return judging.not_published(now)
    return judging.out(word, held, now, done=len(held.remotes), cause=Cause.PERSON, quiet=QUIET)


async def _taken(session: AsyncSession, held: Held, remote_id: str) -> RemoteTaken | None:
    """Returns whose post it is that a person takes for this delivery's; None where no delivery has it."""
    rows = await session.execute(_HOLDER, {"channel_id": held.channel_id, "remote_id": remote_id})
    holder = rows.one_or_none()
    if holder is None:
        return None
    if holder.delivery_id == held.id:
        part = f"part {holder.segment + 1}, which is known to be out; give the one of part {len(held.remotes) + 1}"
        return RemoteTaken(f"this is the address of {part}", field="remote_url")
    whose = f", {show_id(DELIVERY, holder.delivery_id)}" if holder.workspace_id == held.workspace_id else ""
    message = f"this is the address of another delivery's post{whose}; give the one of this delivery's own post"
    return RemoteTaken(message, field="remote_url")


def _was_taken(row: Any, request_id: str) -> bool:
    """True for a repeated call. Raises DeliveryStateConflict where there is nothing to settle."""
    if request_id and row.resolve_request_id == request_id:
        return True
    if row.state != State.UNKNOWN:
        raise DeliveryStateConflict(f"the delivery is {row.state}; only an unknown one can be settled")
    return False


def _found(row: Any) -> Any:
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
