"""Tools for tests that plan posts."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from regie.ids.v1.prefixes import CHANNEL
from regie.scheduler.events.v1.scheduler_events_pb2 import DueSegment, DueVariant
from regie_chassis.boundary.ids import new_id, show_id
from regie_chassis.data.database import Database
from regie_chassis.process.clock import Clock

from regie_scheduler.posts import planning, queries
from regie_scheduler.posts.planning import Command, WallTime
from regie_scheduler.posts.post import Post
from regie_scheduler.posts.timeline import Change, DeliveryStatus
from regie_scheduler.posts.times import PublishTime
from regie_scheduler.posts.wakeup import DueWakeup

PARIS = WallTime("2026-07-01T09:30:00", "Europe/Paris")


def due_variant(text: str = "hello", *, segments: int = 1) -> DueVariant:
    """Returns the content for a channel of its own."""
    return DueVariant(channel_id=show_id(CHANNEL, new_id()), segments=[DueSegment(text=text)] * segments)


class Planner:
    """Plans the posts of one workspace, each call in a transaction of its own."""

    def __init__(self, database: Database, clock: Clock, workspace_id: UUID, wakeup: DueWakeup) -> None:
        self._database = database
        self._clock = clock
        self._workspace_id = workspace_id
        self._wakeup = wakeup

    async def create(
        self,
        *,
        leaves: timedelta | None = None,
        channels: int = 1,
        request_id: str = "",
        variants: Sequence[DueVariant] | None = None,
        now: datetime | None = None,
        title: str = "a title",
        workspace: UUID | None = None,
    ) -> Post:
        """Creates a post; `leaves` is a span from now in UTC, None makes a draft."""
        command = Command(workspace or self._workspace_id, new_id(), request_id, now or self._clock.now())
        local_time = None if leaves is None else (self._clock.now() + leaves).replace(tzinfo=None).isoformat()
        async with self._database.transaction() as session:
            return await planning.create_post(
                session,
                command,
                title=title,
                variants=variants or [due_variant() for _ in range(channels)],
                wall_time=None if local_time is None else WallTime(local_time, "UTC"),
                wakeup=self._wakeup,
            )

    async def edit(
        self,
        post: Post,
        *,
        revision: int = 0,
        title: str | None = None,
        variants: Sequence[DueVariant] = (),
        request_id: str = "",
        workspace: UUID | None = None,
    ) -> Post:
        """Edits a post."""
        command = self._command(post, request_id, workspace)
        async with self._database.transaction() as session:
            return await planning.edit_post(session, command, revision=revision, title=title, variants=variants)

    async def schedule(
        self,
        post: Post,
        wall_time: WallTime = PARIS,
        *,
        revision: int = 0,
        request_id: str = "",
        workspace: UUID | None = None,
    ) -> Post:
        """Schedules a post, for a summer morning in Paris unless another time is given."""
        command = self._command(post, request_id, workspace)
        async with self._database.transaction() as session:
            return await planning.schedule_post(
                session, command, wall_time=wall_time, revision=revision, wakeup=self._wakeup
            )

    async def cancel(
        self, post: Post, *, revision: int = 0, request_id: str = "", workspace: UUID | None = None
    ) -> Post:
        """Cancels a post."""
        command = self._command(post, request_id, workspace)
        async with self._database.transaction() as session:
            return await planning.cancel_post(session, command, revision=revision)

    async def get(self, post: Post, *, workspace: UUID | None = None) -> Post:
        """Reads a post."""
        async with self._database.reading() as session:
            return await queries.get_post(session, workspace_id=workspace or self._workspace_id, post_id=post.id)

    async def timeline(self, post: Post, *, workspace: UUID | None = None) -> list[Change | DeliveryStatus]:
        """Reads the first page of a post's timeline."""
        async with self._database.reading() as session:
            page = await queries.list_timeline(session, workspace_id=workspace or self._workspace_id, post_id=post.id)
            return list(page.items)

    def _command(self, post: Post, request_id: str, workspace: UUID | None) -> Command:
        return Command(workspace or self._workspace_id, post.id, request_id, self._clock.now())


def time_of(post: Post) -> PublishTime:
    """Returns the time of a post that has one."""
    assert post.time is not None
    return post.time
