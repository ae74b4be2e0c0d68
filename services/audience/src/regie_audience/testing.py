"""Rules, steps and types of fixtures for the audience's tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from google.protobuf.message import Message
from regie.audience.events.v1.audience_events_pb2 import ProfilesImported, ProfileUpdated
from regie_chassis.data.database import Database

from regie_audience.memberships.work import SegmentWork
from regie_audience.profiles.queries import Profile
from regie_audience.segments.lifecycle import delete_segment
from regie_audience.segments.queries import Segment, get_segment, list_segment_members

ADULT = {"comparison": {"attribute": "age", "operator": "ge", "value": 18}}
LYON = {"comparison": {"attribute": "city", "operator": "eq", "value": "Lyon"}}


Method = Callable[[Message], Any]
"""The RPC of a request."""


class Upsert(Protocol):
    """Upserts profiles given as external id = attributes, into the test's workspace unless another is given."""

    async def __call__(
        self, people: Mapping[str, Mapping[str, object]], *, workspace: UUID | None = None
    ) -> list[Profile]: ...


class CreateSegment(Protocol):
    """Creates a segment of a rule given as data."""

    async def __call__(self, name: str, rule: Mapping[str, object], *, request_id: str = "") -> Segment: ...


class NewEvents(Protocol):
    """Returns the events that were staged since the last call, in their order, each as its message."""

    async def __call__(self) -> list[Any]: ...


def moves_of(events: list[Any]) -> list[Any]:
    """Returns the events of segments among the staged events."""
    return [event for event in events if not isinstance(event, ProfileUpdated | ProfilesImported)]


async def finish(work: SegmentWork) -> None:
    """Works until nothing is left to fill or to remove."""
    while await work.step():
        pass


async def read_segment(database: Database, workspace_id: UUID, segment_id: UUID) -> Segment:
    async with database.reading() as session:
        return await get_segment(session, workspace_id=workspace_id, segment_id=segment_id)


async def members_of(database: Database, workspace_id: UUID, segment_id: UUID) -> set[str]:
    """Returns the external ids of a segment's members."""
    async with database.reading() as session:
        page = await list_segment_members(
            session, workspace_id=workspace_id, segment_id=segment_id, page_size=200, page_token=""
        )
    return {profile.external_id for profile in page.items}


async def remove(database: Database, workspace_id: UUID, segment_id: UUID, now: datetime) -> None:
    """Deletes a segment in a transaction of its own."""
    async with database.transaction() as session:
        await delete_segment(session, workspace_id=workspace_id, segment_id=segment_id, now=now)
