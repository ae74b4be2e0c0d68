"""What the publisher tells of its deliveries, and what becomes of a post by it.

Handlers turn events into fates; `apply_fates` writes a batch of them under the locks of their posts, so that the last
two deliveries of a post, told to two replicas at once, cannot both believe that the other is still out.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import TypeVar
from uuid import UUID

from regie.publisher.events.v1.publisher_events_pb2 import (
    DeliveryCancelled,
    DeliveryFailed,
    DeliveryMissed,
    DeliveryProcessing,
    DeliveryUnknown,
    FailureKind,
    FailureSource,
    PostPublished,
    PostRemoved,
    RemoteSegment,
)
from regie.scheduler.events.v1.scheduler_events_pb2 import PostFinished, PostOutcome
from regie_chassis.enums import names_of
from regie_chassis.ids import CHANNEL, POST, parse_id, show_id
from regie_chassis.messaging import Event
from regie_chassis.outbox import stage
from regie_chassis.telemetry import trace_id_of
from regie_chassis.text import storable
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from regie_scheduler import telemetry
from regie_scheduler.states import ROLLED_UP, PostState, VariantState, has_ended, roll_up, supersedes
from regie_scheduler.timeline import MOST_DETAIL, PUBLISHER, Change, write_changes

Told = TypeVar(
    "Told", PostPublished, DeliveryProcessing, DeliveryFailed, DeliveryUnknown, DeliveryMissed, DeliveryCancelled
)

NEEDS_PERSON = "a person has to find out: "
_kept = partial(storable, most=MOST_DETAIL)
MAX_OUTCOME_FAILURE = 500  # characters; PostFinished holds up to 50 of them


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of one delivery, as one event tells it."""

    workspace_id: UUID
    post_id: UUID
    channel_id: UUID
    revision: int
    state: VariantState
    time: datetime
    traceparent: str
    delivery_id: str
    detail: str = ""
    failure: str = ""
    failure_kind: str = ""
    remote_id: str = ""
    remote_url: str = ""
    segments: tuple[tuple[str, str], ...] = ()
    """The parts that are out, as (id, address)."""


async def on_post_published(session: AsyncSession, events: Sequence[Event[PostPublished]]) -> None:
    """A delivery is out."""
    await apply_fates(session, [_published(event) for event in events])


async def on_delivery_processing(session: AsyncSession, events: Sequence[Event[DeliveryProcessing]]) -> None:
    """A network took it and is still working, or a part of it is out and the next follows."""
    await apply_fates(session, [_processing(event) for event in events])


async def on_delivery_failed(session: AsyncSession, events: Sequence[Event[DeliveryFailed]]) -> None:
    """A delivery will not be out."""
    await apply_fates(session, [_failed(event) for event in events])


async def on_delivery_unknown(session: AsyncSession, events: Sequence[Event[DeliveryUnknown]]) -> None:
    """A call left and no answer came back."""
    await apply_fates(session, [_unknown(event) for event in events])


async def on_delivery_missed(session: AsyncSession, events: Sequence[Event[DeliveryMissed]]) -> None:
    """A delivery was too late to be sent."""
    await apply_fates(session, [_missed(event) for event in events])


async def on_delivery_cancelled(session: AsyncSession, events: Sequence[Event[DeliveryCancelled]]) -> None:
    """A delivery was stopped before any call."""
    await apply_fates(session, [_fate(event, VariantState.CANCELLED) for event in events])


async def on_post_removed(session: AsyncSession, events: Sequence[Event[PostRemoved]]) -> None:
    """A network no longer has a post. It stays published: it was, and it is not to be sent again."""
    await session.execute(
        _REMOVE,
        {
            "workspace_ids": [event.workspace_id for event in events],
            "post_ids": [parse_id(POST, event.message.post_id) for event in events],
            "channel_ids": [parse_id(CHANNEL, event.message.channel_id) for event in events],
            "times": [event.message.observe_time.ToDatetime(UTC) for event in events],
        },
    )


async def apply_fates(session: AsyncSession, fates: Sequence[Fate]) -> None:
    """Writes what the fates change, and stages `PostFinished` for every post that has ended by then.

    Fates of other workspaces' posts, of other revisions and of nothing that is known are ignored, and so are those
    that tell less than is known already.
    """
    posts = await _lock_posts(session, sorted({fate.post_id for fate in fates}))
    known, parts = await _variant_states(session, list(posts))
    changes: list[Change] = []
    applied: dict[tuple[UUID, UUID], Fate] = {}
    for fate in fates:
        place = fate.post_id, fate.channel_id
        if not _concerns(fate, posts.get(fate.post_id), known) or not _tells_more(
            fate, known[fate.post_id][fate.channel_id], parts.get(place, 0)
        ):
            continue
        known[fate.post_id][fate.channel_id] = fate.state
        applied[place] = fate
        parts[place] = max(parts.get(place, 0), len(fate.segments))
        changes.append(_variant_change(fate))
    if not applied:
        return
    await _update_variants(session, list(applied.values()))
    ended = [post_id for post_id in {one.post_id for one in applied.values()} if _has_ended(known[post_id])]
    outcomes = await _outcomes(session, ended)
    begun = {post_id for (post_id, _), count in parts.items() if count}
    moved = _roll_up_posts(session, posts, known, begun, list(applied.values()), outcomes, changes)
    await _update_posts(session, moved)
    await write_changes(session, changes)


@dataclass(frozen=True, slots=True)
class _Post:
    id: UUID
    workspace_id: UUID
    state: PostState
    revision: int
    update_time: datetime


def _tells_more(fate: Fate, known: VariantState, parts_out: int) -> bool:
    """Of a delivery that has not ended, another part that is out is always news: parts only become more."""
    return supersedes(fate.state, known) or (not has_ended(known) and len(fate.segments) > parts_out)


def _processing(event: Event[DeliveryProcessing]) -> Fate:
    fate = replace(_fate(event, VariantState.PROCESSING), detail=_kept(_parts_out(event.message).strip(" ()")))
    return _with_segments(fate, event.message)


def _published(event: Event[PostPublished]) -> Fate:
    message = event.message
    url = _kept(message.remote_url)
    fate = _fate(event, VariantState.PUBLISHED)
    remote_id = _kept(message.remote_id)
    segments = _segments(message.segments) or ((remote_id, url),)
    return replace(fate, detail=url, remote_id=remote_id, remote_url=url, segments=segments)


def _failed(event: Event[DeliveryFailed]) -> Fate:
    message = event.message
    said = ": ".join(words for words in (message.network_message, message.detail) if words)
    kind, source = names_of(FailureKind.DESCRIPTOR)[message.kind], names_of(FailureSource.DESCRIPTOR)[message.source]
    detail = _kept(f"{kind} ({source}): {said}{_parts_out(message)}")
    fate = replace(
        _fate(event, VariantState.FAILED),
        detail=detail,
        failure=_kept(said) or kind,
        failure_kind=kind,
    )
    return _with_segments(fate, message)


def _unknown(event: Event[DeliveryUnknown]) -> Fate:
    message = event.message
    words = _kept((NEEDS_PERSON if message.needs_person else "") + message.reason)
    detail = _kept(words + _parts_out(message))
    return _with_segments(replace(_fate(event, VariantState.UNKNOWN), detail=detail, failure=words), message)


def _missed(event: Event[DeliveryMissed]) -> Fate:
    words = _kept(event.message.reason)
    return replace(_fate(event, VariantState.MISSED), detail=words, failure=words)


def _with_segments(fate: Fate, message: DeliveryFailed | DeliveryUnknown | DeliveryProcessing) -> Fate:
    segments = _segments(message.segments)
    if not segments:
        return fate
    return replace(fate, remote_id=segments[0][0], remote_url=segments[0][1], segments=segments)


def _segments(segments: Iterable[RemoteSegment]) -> tuple[tuple[str, str], ...]:
    return tuple((_kept(segment.remote_id), _kept(segment.remote_url)) for segment in segments)


def _parts_out(message: DeliveryFailed | DeliveryUnknown | DeliveryProcessing) -> str:
    """Returns what is to be known before anybody sends it again."""
    if not message.segments:
        return ""
    return f" ({len(message.segments)} of {message.segment_count} parts are out, from {message.segments[0].remote_url})"


def _fate(event: Event[Told], state: VariantState) -> Fate:
    message = event.message
    return Fate(
        workspace_id=event.workspace_id,
        post_id=parse_id(POST, message.post_id),
        channel_id=parse_id(CHANNEL, message.channel_id),
        revision=message.revision,
        state=state,
        time=event.time,
        traceparent=event.traceparent,
        delivery_id=_kept(message.delivery_id),
    )


def _concerns(fate: Fate, post: _Post | None, known: dict[UUID, dict[UUID, VariantState]]) -> bool:
    if post is None or post.workspace_id != fate.workspace_id or fate.channel_id not in known.get(fate.post_id, {}):
        telemetry.event_ignored(fate.post_id, fate.channel_id, "no such post or channel")
        return False
    if fate.revision != post.revision or post.state not in ROLLED_UP | {PostState.DISPATCHED}:
        telemetry.event_ignored(fate.post_id, fate.channel_id, "tells of another revision")
        return False
    return True


def _roll_up_posts(
    session: AsyncSession,
    posts: dict[UUID, _Post],
    known: dict[UUID, dict[UUID, VariantState]],
    begun: set[UUID],
    applied: Sequence[Fate],
    outcomes: dict[UUID, list[PostOutcome]],
    changes: list[Change],
) -> list[_Post]:
    """Returns the posts that get another state or time, having noted and staged what that means."""
    latest = {fate.post_id: fate for fate in sorted(applied, key=lambda fate: fate.time)}
    moved: list[_Post] = []
    for post_id, fate in latest.items():
        post = posts[post_id]
        state = roll_up(known[post_id].values(), parts_out=post_id in begun)
        moved.append(replace(post, state=state, update_time=max(fate.time, post.update_time)))
        if state is PostState.DISPATCHED:
            continue
        if state is not post.state:
            trace_id = trace_id_of(fate.traceparent)
            changes.append(Change(post_id, fate.time, state, PUBLISHER, trace_id=trace_id))
            telemetry.post_finished(state)
        # An outcome that changes after the end is told, too, even where the state of the whole stays.
        stage(
            session,
            PostFinished(
                post_id=show_id(POST, post_id), state=state, outcomes=outcomes[post_id], revision=post.revision
            ),
            workspace_id=post.workspace_id,
            time=fate.time,
            traceparent=fate.traceparent,
        )
    return moved


def _has_ended(states: dict[UUID, VariantState]) -> bool:
    return roll_up(states.values()) is not PostState.DISPATCHED


def _variant_change(fate: Fate) -> Change:
    return Change(
        fate.post_id, fate.time, fate.state, PUBLISHER, fate.detail, fate.channel_id, trace_id_of(fate.traceparent)
    )


async def _lock_posts(session: AsyncSession, post_ids: Sequence[UUID]) -> dict[UUID, _Post]:
    # In the order of ids, so that two replicas with the same posts wait for one another instead of locking up.
    rows = await session.execute(_LOCK, {"ids": list(post_ids)})
    return {
        row.id: _Post(row.id, row.workspace_id, PostState(row.state), row.revision, row.update_time) for row in rows
    }


async def _variant_states(
    session: AsyncSession, post_ids: Sequence[UUID]
) -> tuple[dict[UUID, dict[UUID, VariantState]], dict[tuple[UUID, UUID], int]]:
    """Returns the states of all variants by post and channel, and how many parts of each are out."""
    # A statement of its own: joined to the lock it would show the variants as they were before the wait for it.
    states: dict[UUID, dict[UUID, VariantState]] = {}
    parts: dict[tuple[UUID, UUID], int] = {}
    for post_id, channel_id, state, parts_out in await session.execute(_STATES, {"ids": list(post_ids)}):
        states.setdefault(post_id, {})[channel_id] = VariantState(state)
        parts[post_id, channel_id] = parts_out
    return states, parts


async def _outcomes(session: AsyncSession, post_ids: Sequence[UUID]) -> dict[UUID, list[PostOutcome]]:
    found: dict[UUID, list[PostOutcome]] = {post_id: [] for post_id in post_ids}
    if not post_ids:
        return found
    for row in await session.execute(_OUTCOMES, {"ids": list(post_ids)}):
        found[row.post_id].append(
            PostOutcome(
                channel_id=show_id(CHANNEL, row.channel_id),
                delivery_id=row.delivery_id,
                state=row.state,
                remote_id=row.remote_id,
                remote_url=row.remote_url,
                failure_kind=row.failure_kind,
                failure=row.failure[:MAX_OUTCOME_FAILURE],
            )
        )
    return found


async def _update_variants(session: AsyncSession, fates: Sequence[Fate]) -> None:
    await session.execute(
        _UPDATE_VARIANTS,
        {
            "post_ids": [fate.post_id for fate in fates],
            "channel_ids": [fate.channel_id for fate in fates],
            "states": [str(fate.state) for fate in fates],
            "remote_ids": [fate.remote_id for fate in fates],
            "remote_urls": [fate.remote_url for fate in fates],
            "failures": [fate.failure for fate in fates],
            "segments": [json.dumps(fate.segments) for fate in fates],
            "failure_kinds": [fate.failure_kind for fate in fates],
            "delivery_ids": [fate.delivery_id for fate in fates],
        },
    )


async def _update_posts(session: AsyncSession, posts: Sequence[_Post]) -> None:
    await session.execute(
        _UPDATE_POSTS,
        {
            "ids": [post.id for post in posts],
            "states": [str(post.state) for post in posts],
            "times": [post.update_time for post in posts],
        },
    )


_LOCK = text(
    "SELECT id, workspace_id, state, revision, update_time FROM post"
    " WHERE id = ANY(CAST(:ids AS uuid[])) ORDER BY id FOR UPDATE"
)
_STATES = text(
    "SELECT post_id, channel_id, state, jsonb_array_length(remote_segments) AS parts_out FROM variant"
    " WHERE post_id = ANY(CAST(:ids AS uuid[]))"
)
_OUTCOMES = text(
    "SELECT post_id, channel_id, delivery_id, state, remote_id, remote_url, failure_kind, failure FROM variant"
    " WHERE post_id = ANY(CAST(:ids AS uuid[])) ORDER BY post_id, position"
)
_UPDATE_VARIANTS = text(
    """
    UPDATE variant
    SET state = told.state, remote_id = told.remote_id, remote_url = told.remote_url, failure = told.failure,
        failure_kind = told.failure_kind, delivery_id = told.delivery_id,
        remote_segments = CAST(told.segments AS jsonb)
    FROM unnest(
        CAST(:post_ids AS uuid[]), CAST(:channel_ids AS uuid[]), CAST(:states AS text[]),
        CAST(:remote_ids AS text[]), CAST(:remote_urls AS text[]), CAST(:failures AS text[]),
        CAST(:segments AS text[]), CAST(:failure_kinds AS text[]), CAST(:delivery_ids AS text[]))
        AS told (post_id, channel_id, state, remote_id, remote_url, failure, segments, failure_kind, delivery_id)
    WHERE variant.post_id = told.post_id AND variant.channel_id = told.channel_id
    """
)
_REMOVE = text(
    """
    UPDATE variant SET remove_time = gone.time
    FROM unnest(
        CAST(:workspace_ids AS uuid[]), CAST(:post_ids AS uuid[]), CAST(:channel_ids AS uuid[]),
        CAST(:times AS timestamptz[]))
        AS gone (workspace_id, post_id, channel_id, time)
    JOIN post ON post.id = gone.post_id AND post.workspace_id = gone.workspace_id
    WHERE variant.post_id = gone.post_id AND variant.channel_id = gone.channel_id AND variant.remove_time IS NULL
    """
)
_UPDATE_POSTS = text(
    """
    UPDATE post SET state = told.state, update_time = told.update_time
    FROM unnest(CAST(:ids AS uuid[]), CAST(:states AS text[]), CAST(:times AS timestamptz[]))
         AS told (id, state, update_time)
    WHERE post.id = told.id
    """
)
