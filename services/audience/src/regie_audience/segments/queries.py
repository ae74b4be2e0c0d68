"""Segments as they are read, with their members: one by one and in pages."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from regie_chassis.boundary.errors import NotFound
from regie_chassis.data.paging import Page, page_of, read_token, size_of
from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from regie_audience.memberships.states import SegmentState
from regie_audience.profiles.queries import COLUMNS as PROFILE_COLUMNS
from regie_audience.profiles.queries import Profile, profile_of, profiles_page
from regie_audience.rules.model import Rule, dump_rule, parse_rule

LIST = "segments"
MEMBERS = "members"
FRAME = 200  # bytes of a segment in an answer besides its texts


class SegmentNotFound(NotFound):
    """There is no such segment in the caller's workspace."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A named rule with its exact size, which grows while the state is `filling`."""

    id: UUID
    name: str
    rule: Rule
    member_count: int
    state: SegmentState
    create_time: datetime


async def get_segment(session: AsyncSession, *, workspace_id: UUID, segment_id: UUID) -> Segment:
    """Returns one segment. Raises SegmentNotFound."""
    rows = await session.execute(_SELECT_SEGMENT, {"id": segment_id, "workspace_id": workspace_id})
    row = rows.one_or_none()
    if row is None:
        raise SegmentNotFound("there is no such segment; check the id", field="segment_id")
    return segment_of(row)


async def list_segments(session: AsyncSession, *, workspace_id: UUID, page_size: int, page_token: str) -> Page[Segment]:
    """Returns a page of segments, the newest first. Raises InvalidPageToken or InvalidPageSize."""
    size = size_of(page_size)
    rows = await session.execute(
        _SELECT_PAGE, {"workspace_id": workspace_id, "before": read_token(LIST, page_token), "limit": size + 1}
    )
    return page_of([segment_of(row) for row in rows], size=size, list_name=LIST, bytes_of=_bytes_of)


async def list_segment_members(
    session: AsyncSession, *, workspace_id: UUID, segment_id: UUID, page_size: int, page_token: str
) -> Page[Profile]:
    """Returns a page of a segment's members, the newest profiles first.

    Raises SegmentNotFound, InvalidPageToken or InvalidPageSize.
    """
    size, before = size_of(page_size), read_token(MEMBERS, page_token)
    await get_segment(session, workspace_id=workspace_id, segment_id=segment_id)
    rows = await session.execute(_SELECT_MEMBERS, {"segment_id": segment_id, "before": before, "limit": size + 1})
    return profiles_page([profile_of(row) for row in rows], size, MEMBERS)


def _bytes_of(segment: Segment) -> int:
    return FRAME + 4 * len(segment.name) + len(json.dumps(dump_rule(segment.rule)).encode())


def segment_of(row: Row[Any]) -> Segment:
    """Returns the segment of a row of COLUMNS."""
    return Segment(row.id, row.name, parse_rule(row.rule), row.member_count, SegmentState(row.state), row.create_time)


COLUMNS = "id, name, rule, member_count, state, create_time"
ALIVE = f"state <> '{SegmentState.DELETING}'"

_SELECT_SEGMENT = text(f"SELECT {COLUMNS} FROM segment WHERE id = :id AND workspace_id = :workspace_id AND {ALIVE}")

_SELECT_PAGE = text(
    f"""
    SELECT {COLUMNS} FROM segment WHERE workspace_id = :workspace_id AND id < :before AND {ALIVE}
    ORDER BY id DESC LIMIT :limit
    """
)

_SELECT_MEMBERS = text(
    f"""
    SELECT {PROFILE_COLUMNS} FROM membership JOIN profile ON profile.id = membership.profile_id
    WHERE segment_id = :segment_id AND leave_time IS NULL AND membership.profile_id < :before
    ORDER BY membership.profile_id DESC LIMIT :limit
    """
)
