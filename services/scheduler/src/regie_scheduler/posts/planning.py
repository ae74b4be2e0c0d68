"""What people do with posts before they are out: create, edit, schedule, cancel.

Each use case locks the post's row, asks `states`, writes, and stages its event; the due loop's claim locks the very
same row. All are repeatable under a request id.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from regie.scheduler.events.v1.scheduler_events_pb2 import PostCancelled, PostCreated, PostEdited, PostScheduled
from regie_chassis.errors import Conflict
from regie_chassis.ids import CHANNEL, POST, show_id
from regie_chassis.outbox import stage
from regie_chassis.telemetry import current_traceparent, trace_id_of
from sqlalchemy.ext.asyncio import AsyncSession

from regie_scheduler import idempotency
from regie_scheduler.posts import store
from regie_scheduler.posts.content import Content, check_contents, check_title
from regie_scheduler.posts.queries import Post, get_post, not_found
from regie_scheduler.posts.states import Action, PostState, after
from regie_scheduler.posts.timeline import API, Change, write_changes
from regie_scheduler.posts.times import PublishTime, resolve
from regie_scheduler.posts.wakeup import Alarm, announce


class RevisionConflict(Conflict):
    """Somebody else has edited the post since the caller read it."""


@dataclass(frozen=True, slots=True)
class Command:
    """On whose behalf, on which post, under which request id and when something is done."""

    workspace_id: UUID
    post_id: UUID
    request_id: str
    now: datetime


@dataclass(frozen=True, slots=True)
class WallTime:
    """When a post is to leave, as a person says it."""

    local_time: str
    time_zone: str
    occurrence: str = ""
    """first or second of a time that comes twice; empty for the first."""


async def create_post(
    session: AsyncSession,
    command: Command,
    *,
    title: str,
    contents: Sequence[Content],
    wall_time: WallTime | None,
    alarm: Alarm,
) -> Post:
    """Creates a post under the command's id, scheduled when a wall time is given, else as a draft.

    Raises InvalidPost and what `times.resolve` raises. A repeated request returns the post of the first.
    """
    check_title(title)
    stored = check_contents(contents)
    if repeated := await _repeated(session, command, "CreatePost"):
        return repeated
    time = _resolve(wall_time, command) if wall_time else None
    state = after(Action.SCHEDULE, PostState.DRAFT) if time else PostState.DRAFT
    traceparent = current_traceparent()
    await store.insert_post(
        session,
        workspace_id=command.workspace_id,
        post_id=command.post_id,
        title=title,
        state=state,
        time=time,
        now=command.now,
        traceparent=traceparent,
        contents=stored,
    )
    _stage(session, command, PostCreated(post_id=show_id(POST, command.post_id), title=title))
    await _note(session, command, state, detail=_at(time) if time else "")
    if time:
        await _scheduled(session, command, time, 1, [one.channel_id for one in stored], alarm)
    return await get_post(session, workspace_id=command.workspace_id, post_id=command.post_id)


async def edit_post(
    session: AsyncSession, command: Command, *, revision: int, title: str | None, contents: Sequence[Content]
) -> Post:
    """Replaces the title unless it is None, and the variants unless there are none, of a post that has not left.

    Where nothing would change nothing does, not even the revision. An approved post returns to review. Raises
    PostNotFound, InvalidPost, PostStateConflict or RevisionConflict; `revision` 0 skips the last check.
    """
    if title is not None:
        check_title(title)
    stored = check_contents(contents) if contents else []
    if repeated := await _repeated(session, command, "EditPost"):
        return repeated
    found = await _lock(session, command)
    state = after(Action.EDIT, found.state)
    _check_revision(found, revision)
    existing = await get_post(session, workspace_id=command.workspace_id, post_id=command.post_id)
    same_content = not stored or [one.content for one in stored] == [one.content for one in existing.variants]
    if same_content and title in (None, found.title):
        return existing
    edited = replace(found, state=state, title=found.title if title is None else title, revision=found.revision + 1)
    await store.update_post(session, found, edited, now=command.now)
    if not same_content:
        await store.replace_variants(session, command.post_id, stored)
    _stage(session, command, PostEdited(post_id=show_id(POST, command.post_id), revision=edited.revision))
    await _note(session, command, state, detail=f"edited, revision {edited.revision}")
    return await get_post(session, workspace_id=command.workspace_id, post_id=command.post_id)


async def schedule_post(
    session: AsyncSession, command: Command, *, wall_time: WallTime, revision: int = 0, alarm: Alarm
) -> Post:
    """Sets or moves the time at which a post leaves; another time is another revision, the same is no change.

    Raises PostNotFound, PostStateConflict, RevisionConflict (`revision` 0 skips it) and what `times.resolve` raises.
    """
    if repeated := await _repeated(session, command, "SchedulePost"):
        return repeated
    found = await _lock(session, command)
    state = after(Action.SCHEDULE, found.state)
    _check_revision(found, revision)
    time = _resolve(wall_time, command)
    if state is found.state and time == found.time:
        return await get_post(session, workspace_id=command.workspace_id, post_id=command.post_id)
    planned = replace(found, state=state, time=time, revision=found.revision + 1, traceparent=current_traceparent())
    await store.update_post(session, found, planned, now=command.now)
    await _note(session, command, state, detail=_at(time))
    post = await get_post(session, workspace_id=command.workspace_id, post_id=command.post_id)
    channel_ids = await store.channels_of(session, command.post_id)
    await _scheduled(session, command, time, planned.revision, channel_ids, alarm)
    return post


async def cancel_post(session: AsyncSession, command: Command, *, revision: int = 0) -> Post:
    """Stops a post; of one that is dispatched, what no call has left for yet.

    A dispatched post stays so, with the wish noted, until its deliveries tell what became of them. Raises
    PostNotFound, PostStateConflict or RevisionConflict (`revision` 0 skips it).
    """
    if repeated := await _repeated(session, command, "CancelPost"):
        return repeated
    found = await _lock(session, command)
    state = after(Action.CANCEL, found.state)
    _check_revision(found, revision)
    if found.cancel_time is None:
        await store.update_post(session, found, replace(found, state=state, cancel_time=command.now), now=command.now)
        _stage(session, command, PostCancelled(post_id=show_id(POST, command.post_id), revision=found.revision))
        asked = "asked to stop; waits for the deliveries" if state is PostState.DISPATCHED else ""
        await _note(session, command, state, detail=asked)
    return await get_post(session, workspace_id=command.workspace_id, post_id=command.post_id)


def _check_revision(found: store.PostRow, seen: int) -> None:
    if seen and seen != found.revision:
        raise RevisionConflict(
            f"the post is at revision {found.revision}, not {seen}; read it again and repeat the change on that",
            field="revision",
        )


def _resolve(wall_time: WallTime, command: Command) -> PublishTime:
    return resolve(wall_time.local_time, wall_time.time_zone, now=command.now, occurrence=wall_time.occurrence)


async def _repeated(session: AsyncSession, command: Command, method: str) -> Post | None:
    known = await idempotency.claim(
        session,
        workspace_id=command.workspace_id,
        request_id=command.request_id,
        method=method,
        post_id=command.post_id,
        now=command.now,
    )
    if known is None:
        return None
    return await get_post(session, workspace_id=command.workspace_id, post_id=known)


async def _lock(session: AsyncSession, command: Command) -> store.PostRow:
    found = await store.lock_post(session, workspace_id=command.workspace_id, post_id=command.post_id)
    if found is None:
        raise not_found(command.post_id)
    return found


async def _scheduled(
    session: AsyncSession,
    command: Command,
    time: PublishTime,
    revision: int,
    channel_ids: Sequence[UUID],
    alarm: Alarm,
) -> None:
    message = PostScheduled(
        post_id=show_id(POST, command.post_id),
        publish_local_time=time.local_time,
        time_zone=time.time_zone,
        channel_ids=[show_id(CHANNEL, channel_id) for channel_id in channel_ids],
        revision=revision,
    )
    message.publish_time.FromDatetime(time.instant)
    _stage(session, command, message)
    await announce(session, alarm, time.instant, now=command.now)


def _stage(
    session: AsyncSession, command: Command, message: PostCreated | PostEdited | PostScheduled | PostCancelled
) -> None:
    stage(session, message, workspace_id=command.workspace_id, time=command.now)


async def _note(session: AsyncSession, command: Command, state: PostState, *, detail: str) -> None:
    trace_id = trace_id_of(current_traceparent())
    await write_changes(session, [Change(command.post_id, command.now, state, API, detail, trace_id=trace_id)])


def _at(time: PublishTime) -> str:
    return f"leaves at {time.local_time} in {time.time_zone}"
