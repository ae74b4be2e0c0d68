"""Use cases before a post leaves: create, edit, schedule, cancel.

Each one locks the post's row, asks `states`, writes, and stages its event; the due loop's claim locks the very same
row. The answer is built from the locked row and the change. All are repeatable under a request id.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from regie.ids.v1.prefixes import POST
from regie.scheduler.events.v1.scheduler_events_pb2 import (
    DueVariant,
    PostCancelled,
    PostCreated,
    PostEdited,
    PostScheduled,
)
from regie_chassis.boundary.errors import Conflict
from regie_chassis.boundary.ids import show_id
from regie_chassis.boundary.telemetry import current_traceparent, trace_id_of
from regie_chassis.events.outbox import stage
from sqlalchemy.ext.asyncio import AsyncSession

from regie_scheduler import idempotency
from regie_scheduler.posts import store
from regie_scheduler.posts.content import check_title, check_variants
from regie_scheduler.posts.post import Post, Variant
from regie_scheduler.posts.protobuf import POST_STATES
from regie_scheduler.posts.queries import get_post, not_found
from regie_scheduler.posts.states import Action, ChangeCause, PostState, after
from regie_scheduler.posts.timeline import Change, write_changes
from regie_scheduler.posts.times import PublishTime, resolve
from regie_scheduler.posts.wakeup import DueWakeup, notify_replicas


class RevisionConflict(Conflict):
    """Somebody else has edited the post since the caller read it."""


@dataclass(frozen=True, slots=True)
class Command:
    """Workspace, post, request id and time of a call."""

    workspace_id: UUID
    post_id: UUID
    request_id: str
    now: datetime


@dataclass(frozen=True, slots=True)
class WallTime:
    """A publish time as a person writes it."""

    local_time: str
    time_zone: str
    occurrence: str = ""
    """first or second of a time that comes twice; empty for the first."""


async def create_post(
    session: AsyncSession,
    command: Command,
    *,
    title: str,
    variants: Sequence[DueVariant],
    wall_time: WallTime | None,
    wakeup: DueWakeup,
) -> Post:
    """Creates a post under the command's id, scheduled when a wall time is given, else as a draft.

    Raises InvalidPost and the errors of `times.resolve`. A repeated request returns the post of the first.
    """
    check_title(title)
    contents = check_variants(variants)
    if repeated := await _repeated(session, command, "CreatePost"):
        return repeated
    time = _resolve(wall_time, command) if wall_time else None
    post = Post(
        id=command.post_id,
        title=title,
        state=after(Action.SCHEDULE, PostState.DRAFT) if time else PostState.DRAFT,
        time=time,
        revision=1,
        create_time=command.now,
        update_time=command.now,
        cancel_time=None,
        variants=[Variant(content.content) for content in contents],
    )
    traceparent = current_traceparent() if time else ""
    await store.insert_post(
        session, post, workspace_id=command.workspace_id, contents=contents, traceparent=traceparent
    )
    _stage(session, command, PostCreated(post_id=show_id(POST, post.id), title=title, revision=post.revision))
    await _write_change(session, command, post.state, detail=_departure(time) if time else "")
    if time:
        await _announce_time(session, command, post, time, wakeup)
    return post


async def edit_post(
    session: AsyncSession, command: Command, *, revision: int, title: str | None, variants: Sequence[DueVariant]
) -> Post:
    """Replaces the title unless it is None, and the variants unless there are none, of a post that has not left.

    An edit without a change leaves everything as it is, also the revision. An approved post returns to review. Raises
    PostNotFound, InvalidPost, PostStateConflict or RevisionConflict; `revision` 0 skips the last check.
    """
    if title is not None:
        check_title(title)
    contents = check_variants(variants) if variants else []
    if repeated := await _repeated(session, command, "EditPost"):
        return repeated
    post = await _lock(session, command)
    state = after(Action.EDIT, post.state)
    _check_revision(post, revision)
    new_variants = [Variant(content.content) for content in contents]
    same_content = not contents or [one.content for one in new_variants] == [one.content for one in post.variants]
    if same_content and title in (None, post.title):
        return post
    edited = replace(
        post,
        state=state,
        title=post.title if title is None else title,
        revision=post.revision + 1,
        update_time=command.now,
        variants=post.variants if same_content else new_variants,
    )
    await store.update_post(session, post, edited)
    if not same_content:
        await store.replace_variants(session, post.id, contents)
    _stage(session, command, PostEdited(post_id=show_id(POST, post.id), revision=edited.revision))
    await _write_change(session, command, state, detail=f"edited, revision {edited.revision}")
    return edited


async def schedule_post(
    session: AsyncSession, command: Command, *, wall_time: WallTime, revision: int = 0, wakeup: DueWakeup
) -> Post:
    """Sets or moves the time at which a post leaves; another time is another revision, the same is no change.

    Raises PostNotFound, PostStateConflict, RevisionConflict (`revision` 0 skips it) and the errors of `times.resolve`.
    """
    if repeated := await _repeated(session, command, "SchedulePost"):
        return repeated
    post = await _lock(session, command)
    state = after(Action.SCHEDULE, post.state)
    _check_revision(post, revision)
    time = _resolve(wall_time, command)
    if state is post.state and post.time is not None and time.is_same(post.time):
        return post
    planned = replace(post, state=state, time=time, revision=post.revision + 1, update_time=command.now)
    await store.update_post(session, post, planned, traceparent=current_traceparent())
    await _write_change(session, command, state, detail=_departure(time))
    await _announce_time(session, command, planned, time, wakeup)
    return planned


async def cancel_post(session: AsyncSession, command: Command, *, revision: int = 0) -> Post:
    """Cancels a post. A post that has not left becomes `cancelled`.

    For a dispatched post only the request is recorded: the publisher stops the deliveries that have not been sent, and
    the post's final state follows from their outcomes. Raises PostNotFound, PostStateConflict or RevisionConflict
    (`revision` 0 skips it).
    """
    if repeated := await _repeated(session, command, "CancelPost"):
        return repeated
    post = await _lock(session, command)
    state = after(Action.CANCEL, post.state)
    _check_revision(post, revision)
    if post.cancel_time is not None:
        return post
    cancelled = replace(post, state=state, cancel_time=command.now, update_time=command.now)
    await store.update_post(session, post, cancelled)
    message = PostCancelled(post_id=show_id(POST, post.id), revision=post.revision, state=POST_STATES[state])
    _stage(session, command, message)
    detail = "asked to stop; waits for the deliveries" if state is PostState.DISPATCHED else ""
    await _write_change(session, command, state, detail=detail)
    return cancelled


def _check_revision(post: Post, seen: int) -> None:
    if seen and seen != post.revision:
        raise RevisionConflict(
            f"the post is at revision {post.revision}, not {seen}; read it again and repeat the change on that",
            field="revision",
        )


def _resolve(wall_time: WallTime, command: Command) -> PublishTime:
    return resolve(wall_time.local_time, wall_time.time_zone, now=command.now, occurrence=wall_time.occurrence)


async def _repeated(session: AsyncSession, command: Command, method: str) -> Post | None:
    post_id = await idempotency.claim(
        session,
        workspace_id=command.workspace_id,
        request_id=command.request_id,
        method=method,
        post_id=command.post_id,
        now=command.now,
    )
    if post_id is None:
        return None
    return await get_post(session, workspace_id=command.workspace_id, post_id=post_id)


async def _lock(session: AsyncSession, command: Command) -> Post:
    post = await store.lock_post(session, workspace_id=command.workspace_id, post_id=command.post_id)
    if post is None:
        raise not_found(command.post_id)
    return post


async def _announce_time(
    session: AsyncSession, command: Command, post: Post, time: PublishTime, wakeup: DueWakeup
) -> None:
    message = PostScheduled(
        post_id=show_id(POST, post.id),
        publish_local_time=time.local_time,
        time_zone=time.time_zone,
        channel_ids=[DueVariant.FromString(variant.content).channel_id for variant in post.variants],
        revision=post.revision,
    )
    message.publish_time.FromDatetime(time.instant)
    _stage(session, command, message)
    await notify_replicas(session, wakeup, time.instant, now=command.now)


def _stage(
    session: AsyncSession, command: Command, message: PostCreated | PostEdited | PostScheduled | PostCancelled
) -> None:
    stage(session, message, workspace_id=command.workspace_id, time=command.now)


async def _write_change(session: AsyncSession, command: Command, state: PostState, *, detail: str) -> None:
    trace_id = trace_id_of(current_traceparent())
    change = Change(command.post_id, command.now, state, ChangeCause.API, detail, trace_id)
    await write_changes(session, [change])


def _departure(time: PublishTime) -> str:
    return f"leaves at {time.local_time} in {time.time_zone}"
