"""What the scheduler's tests stand on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from google.protobuf.message import Message
from regie_chassis.database import Database
from regie_chassis.ids import CHANNEL, new_id, show_id
from regie_chassis.testing.clock import FakeClock
from regie_chassis.testing.fixtures import NewDatabase
from regie_scheduler.posts import planning
from regie_scheduler.posts.content import Content, Segment
from regie_scheduler.posts.planning import Command, WallTime
from regie_scheduler.posts.queries import Post
from regie_scheduler.posts.wakeup import Alarm
from sqlalchemy import text

MIGRATIONS = Path(__file__).resolve().parents[1] / "migrations"


@pytest.fixture
async def database(new_database: NewDatabase) -> Database:
    """The scheduler's database, migrated and empty."""
    return await new_database(MIGRATIONS)


@pytest.fixture
def workspace_id() -> UUID:
    return new_id()


@pytest.fixture
def alarm() -> Alarm:
    return Alarm()


@pytest.fixture
def content() -> Callable[..., Content]:
    """Makes the content of one variant, for a channel of its own unless one is given."""

    def make(words: str = "hello", *, channel_id: str = "") -> Content:
        return Content(channel_id or show_id(CHANNEL, new_id()), [Segment(words, [])], "", "")

    return make


Create = Callable[..., Awaitable[Post]]


@pytest.fixture
def create(
    database: Database, clock: FakeClock, workspace_id: UUID, alarm: Alarm, content: Callable[..., Content]
) -> Create:
    """Creates a post; `leaves` is a span from now in UTC, None makes a draft."""

    async def make(
        *,
        leaves: Any = None,
        channels: int = 1,
        request_id: str = "",
        contents: Sequence[Content] | None = None,
        now: datetime | None = None,
        title: str = "a title",
        workspace: UUID | None = None,
    ) -> Post:
        command = Command(workspace or workspace_id, new_id(), request_id, now or clock.now())
        wall = WallTime((clock.now() + leaves).replace(tzinfo=None).isoformat(), "UTC") if leaves is not None else None
        async with database.transaction() as session:
            return await planning.create_post(
                session,
                command,
                title=title,
                contents=contents or [content() for _ in range(channels)],
                wall_time=wall,
                alarm=alarm,
            )

    return make


Staged = Callable[..., Awaitable[list[Any]]]


@pytest.fixture
def staged(database: Database) -> Staged:
    """Returns the staged events of a type, the oldest first."""

    async def find(kind: type[Message]) -> list[Message]:
        async with database.reading() as session:
            rows = await session.execute(
                text("SELECT payload FROM outbox WHERE type = :type ORDER BY id"), {"type": kind.DESCRIPTOR.full_name}
            )
            return [kind.FromString(payload) for payload in rows.scalars()]

    return find
