"""Tells what happened to a post's deliveries, and lets a person settle one that only a person can know."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from regie_chassis.errors import Conflict, NotFound, Unprocessable
from regie_chassis.paging import Page, page_of, read_token
from regie_chassis.telemetry import current_traceparent
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from regie_publisher.connectors.connector import Remote
from regie_publisher.connectors.values import MAX_URL, web_url
from regie_publisher.deliveries import outcomes
from regie_publisher.deliveries.claims import held_of
from regie_publisher.deliveries.delivery import Note, Outcome, State
from regie_publisher.deliveries.judging import not_published
from regie_publisher.deliveries.names import is_named, plain

MOST = 100
LIST = "deliveries"
FRAME = 300  # bytes of an item in an answer besides its texts


class DeliveryNotFound(NotFound):
    """There is no such delivery in the workspace."""


class DeliveryStateConflict(Conflict):
    """The delivery is not in the state that the call is for."""


class CallMayStillLand(Conflict):
    """Nobody can know yet that the post is not there: the call may still be on its way."""


class RemoteTaken(Conflict):
    """The address is that of another delivery's post."""


TAKEN = "this is the address of another delivery's post; give the one of this delivery's own post"


class RemoteUrlRefused(Unprocessable):
    """The address of a post is none that a browser may safely open."""


@dataclass(frozen=True, slots=True)
class Change:
    """One change of a delivery's state."""

    time: datetime
    state: str
    cause: str
    attempt: int
    network_message: str
    trace_id: str
    detail: str
    segments_out: int


@dataclass(frozen=True, slots=True)
class DeliverySegment:
    """A part of a delivery: published, the delivery's state for the part that is next, waiting, or not_sent."""

    state: str
    remote: Remote | None = None


@dataclass(frozen=True, slots=True)
class Delivery:
    """A delivery as people see it; the changes are the oldest first."""

    id: UUID
    post_id: UUID
    channel_id: UUID
    revision: int
    state: str
    remote: Remote | None
    failure_kind: str
    network_message: str
    changes: Sequence[Change]
    call_end: datetime | None
    quiet_end: datetime | None
    next_look: datetime | None
    detail: str
    segments: Sequence[DeliverySegment]


async def list_deliveries(
    session: AsyncSession, *, workspace_id: UUID, post_id: UUID, page_token: str = ""
) -> Page[Delivery]:
    """Returns the deliveries of a post, the oldest first, up to what one answer carries.

    None for a post that is not known here. Raises InvalidPageToken.
    """
    rows = await session.execute(
        text(
            "SELECT * FROM delivery WHERE post_id = :post_id AND workspace_id = :workspace_id AND id > :after"
            " ORDER BY id LIMIT :most"
        ),
        {
            "post_id": post_id,
            "workspace_id": workspace_id,
            "after": read_token(LIST, page_token) if page_token else UUID(int=0),
            "most": MOST + 1,
        },
    )
    found = await _with_changes(session, rows.all())
    return page_of(found, size=MOST, list_name=LIST, bytes_of=_bytes_of)


async def resolve_delivery(
    session: AsyncSession,
    *,
    workspace_id: UUID,
    delivery_id: UUID,
    request_id: str,
    published: bool,
    remote_url: str,
    now: datetime,
) -> Delivery:
    """Settles an unknown delivery by a person's word: published, or to be sent again with the same keys.

    Before its call's quiet time is over a person can see that a post is there, and cannot know that it will not be.
    Repeatable with the same `request_id`. Raises DeliveryNotFound, DeliveryStateConflict, CallMayStillLand,
    RemoteTaken or RemoteUrlRefused.
    """
    if remote_url and not web_url(remote_url):
        message = f"give the post's address as it is opened in a browser: http or https, up to {MAX_URL} characters"
        raise RemoteUrlRefused(message, field="remote_url")
    key = {"id": delivery_id, "workspace_id": workspace_id}
    rows = await session.execute(
        text(
            "SELECT *, CAST(handles AS text) AS handles_text FROM delivery"
            " WHERE id = :id AND workspace_id = :workspace_id FOR UPDATE"
        ),
        key,
    )
    row = rows.one_or_none()
    if row is None:
        raise DeliveryNotFound("there is no such delivery in this workspace")
    if not (request_id and row.resolve_request_id == request_id):
        if row.state != State.UNKNOWN:
            raise DeliveryStateConflict(f"the delivery is {row.state}; only an unknown one can be settled")
        await _settle(session, row, request_id=request_id, published=published, remote_url=remote_url, now=now)
    rows = await session.execute(text("SELECT * FROM delivery WHERE id = :id AND workspace_id = :workspace_id"), key)
    return (await _with_changes(session, rows.all()))[0]


async def _settle(
    session: AsyncSession, row: Any, *, request_id: str, published: bool, remote_url: str, now: datetime
) -> None:
    if not published and row.quiet_end_time is not None and now < row.quiet_end_time:
        raise CallMayStillLand(
            f"the call may still take effect until {row.quiet_end_time:%Y-%m-%d %H:%M:%S} UTC; look again after that, "
            "and say then that it is not published"
        )
    if published:
        if remote_url:
            await _check_address(session, row, remote_url)
        # For a thread, too: without the part's id on the network nothing can be hung on it.
        outcome = Outcome(State.PUBLISHED, "person", remote=Remote("", remote_url))
    else:
        outcome = not_published(now)
    # The fence is raised first, so that a find on its way writes nothing after the person has spoken.
    rows = await session.execute(
        text(
            "UPDATE delivery SET fence = fence + 1, resolve_request_id = :request_id"
            " WHERE id = :id RETURNING *, CAST(handles AS text) AS handles_text"
        ),
        {"id": row.id, "request_id": request_id},
    )
    note = Note(held_of(rows.one()), outcome, current_traceparent() or row.traceparent, expected=(State.UNKNOWN,))
    [kept] = await outcomes.record(session, [note], now=now)
    if not kept:  # another person named the same post at the same time; nothing of this word stays
        raise RemoteTaken(TAKEN, field="remote_url")


async def _check_address(session: AsyncSession, row: Any, remote_url: str) -> None:
    held = await session.execute(_HELD, {"channel_id": row.channel_id, "url": plain(remote_url)})
    holder = next((one for one in held if is_named(one.remote_id, remote_url)), None)
    if holder is None:
        return
    if holder.delivery_id != row.id:
        raise RemoteTaken(TAKEN, field="remote_url")
    part = f"part {holder.segment + 1}, which is known to be out; give the one of part {len(row.remote_ids) + 1}"
    raise RemoteTaken(f"this is the address of {part}", field="remote_url")


async def _with_changes(session: AsyncSession, rows: Sequence[Any]) -> list[Delivery]:
    found = await session.execute(
        text("SELECT * FROM delivery_change WHERE delivery_id = ANY(CAST(:ids AS uuid[])) ORDER BY id"),
        {"ids": [row.id for row in rows]},
    )
    changes: dict[UUID, list[Change]] = {}
    for row in found:
        change = Change(
            row.time,
            row.state,
            row.cause,
            row.attempt,
            row.network_message,
            row.trace_id,
            row.detail,
            row.segments_out,
        )
        changes.setdefault(row.delivery_id, []).append(change)
    return [_delivery(row, changes.get(row.id, [])) for row in rows]


def _bytes_of(delivery: Delivery) -> int:
    remote = len(delivery.remote.id) + len(delivery.remote.url) if delivery.remote else 0
    changes = sum(FRAME + 4 * len(change.network_message) for change in delivery.changes)
    return FRAME + 4 * (remote + len(delivery.network_message)) + changes


def _delivery(row: Any, changes: Sequence[Change]) -> Delivery:
    remote = Remote(row.remote_ids[0], row.remote_urls[0]) if row.remote_ids else None
    return Delivery(
        row.id,
        row.post_id,
        row.channel_id,
        row.revision,
        row.state,
        remote,
        row.failure_kind,
        row.network_message,
        changes,
        row.call_end_time,
        row.quiet_end_time,
        row.act_time if row.state == State.UNKNOWN else None,
        row.detail,
        segments_of(row.state, row.remote_ids, row.remote_urls, len(row.segment_keys)),
    )


def segments_of(state: str, remote_ids: Sequence[str], remote_urls: Sequence[str], count: int) -> list[DeliverySegment]:
    """Returns where each part of a delivery stands. Parts go out in order, and none after one that did not."""
    public = [DeliverySegment("published", Remote(*one)) for one in zip(remote_ids, remote_urls, strict=True)]
    rest = count - len(public)
    if rest <= 0:
        return public
    # A person may have said that the post is there although not all of its parts are.
    ended = state in (State.PUBLISHED, State.FAILED, State.MISSED, State.CANCELLED)
    following = DeliverySegment("not_sent" if state == State.PUBLISHED else state)
    return [*public, following, *[DeliverySegment("not_sent" if ended else "waiting")] * (rest - 1)]


# Of all that the account holds, what may be meant; the last part of an id is looked for, before a version behind "|".
_HELD = text(
    """
    SELECT remote.remote_id, remote.delivery_id, remote.segment FROM remote
    JOIN channel AS own ON (remote.network, remote.account) = (own.network, own.server_url || ' ' || own.account)
    WHERE own.id = :channel_id
      AND strpos(lower(:url), lower(regexp_replace(remote.remote_id, '^.*/|[|].*$', '', 'g'))) > 0
    ORDER BY length(remote.remote_id) DESC
    """
)
