"""Named rules and whom they match: created, deleted, and read in pages.

A new segment answers at once and is filled by `segment_work`; a deleted one is gone at once, and its members are
removed there. The count is kept in the segment's row, so that reading it costs the same at any size.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from regie.audience.events.v1.audience_events_pb2 import SegmentDeleted
from regie_chassis.errors import Conflict, Invalid, NotFound
from regie_chassis.ids import SEGMENT, show_id
from regie_chassis.outbox import stage
from regie_chassis.paging import Page, page_of, read_token
from regie_chassis.telemetry import current_traceparent
from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from regie_audience import rules
from regie_audience.profiles import COLUMNS, Profile, profile_of, profiles_page
from regie_audience.rules import Rule
from regie_audience.segment_work import add_work

MAX_SEGMENTS = 200  # of a workspace: each new profile is judged by all of them

LONGEST_NAME = 200  # characters
LONGEST_REQUEST_ID = 200  # characters
LIST = "segments"
MEMBERS = "members"
FRAME = 200  # bytes of a segment in an answer besides its texts


class InvalidSegment(Invalid):
    """A segment's name or request id has the wrong form."""


class SegmentNameTaken(Conflict):
    """Another segment of the workspace has this name."""


class TooManySegments(Conflict):
    """The workspace has as many segments as it may have."""


class RequestIdReused(Conflict):
    """A request id came back with another request."""


class SegmentNotFound(NotFound):
    """There is no such segment in the caller's workspace."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A named rule with its exact size, which grows while the state is `filling`."""

    id: UUID
    name: str
    rule: Rule
    member_count: int
    state: str
    create_time: datetime


async def create_segment(
    session: AsyncSession,
    *,
    segment_id: UUID,
    workspace_id: UUID,
    request_id: str,
    name: str,
    rule: Rule,
    now: datetime,
) -> Segment:
    """Creates a segment that `segment_work` fills. Repeatable under its request id.

    Raises InvalidSegment, SegmentNameTaken, TooManySegments and RequestIdReused.
    """
    _check(name, request_id)
    await _lock(session, workspace_id)
    known = await _of_request(session, workspace_id, request_id)
    if known is not None:
        if (known.name, known.rule) != (name, rule):
            raise RequestIdReused("this request id made another segment; give a new one", field="request_id")
        return known
    if await _count(session, workspace_id) >= MAX_SEGMENTS:
        raise TooManySegments(f"the workspace has {MAX_SEGMENTS} segments, the most it may have; delete one first")
    if not await _insert(session, segment_id, workspace_id, request_id=request_id, name=name, rule=rule, now=now):
        raise SegmentNameTaken("another segment has this name; give another", field="name")
    await add_work(session, segment_id=segment_id, workspace_id=workspace_id, now=now)
    return Segment(segment_id, name, rule, 0, "filling", now)


async def delete_segment(session: AsyncSession, *, workspace_id: UUID, segment_id: UUID, now: datetime) -> None:
    """Deletes a segment at once; `segment_work` removes its members. Raises SegmentNotFound, also when repeated."""
    await get_segment(session, workspace_id=workspace_id, segment_id=segment_id)
    # The work first: a chunk holds it and then the segment.
    await add_work(session, segment_id=segment_id, workspace_id=workspace_id, now=now)
    rows = await session.execute(_DELETE, {"id": segment_id, "workspace_id": workspace_id})
    if rows.one_or_none() is None:
        raise SegmentNotFound("there is no such segment; check the id", field="segment_id")
    shown = show_id(SEGMENT, segment_id)
    stage(session, SegmentDeleted(segment_id=shown), workspace_id=workspace_id, time=now)


async def get_segment(session: AsyncSession, *, workspace_id: UUID, segment_id: UUID) -> Segment:
    """Returns one segment. Raises SegmentNotFound."""
    rows = await session.execute(_SELECT_SEGMENT, {"id": segment_id, "workspace_id": workspace_id})
    row = rows.one_or_none()
    if row is None:
        raise SegmentNotFound("there is no such segment; check the id", field="segment_id")
    return _segment(row)


async def list_segments(session: AsyncSession, *, workspace_id: UUID, size: int, token: str) -> Page[Segment]:
    """Returns a page of segments, the newest first. Raises InvalidPageToken."""
    rows = await session.execute(
        _SELECT_PAGE, {"workspace_id": workspace_id, "before": read_token(LIST, token), "limit": size + 1}
    )
    return page_of([_segment(row) for row in rows], size=size, list_name=LIST, bytes_of=_bytes_of)


async def list_segment_members(
    session: AsyncSession, *, workspace_id: UUID, segment_id: UUID, size: int, token: str
) -> Page[Profile]:
    """Returns a page of who is in a segment, the newest profiles first. Raises SegmentNotFound, InvalidPageToken."""
    before = read_token(MEMBERS, token)
    await get_segment(session, workspace_id=workspace_id, segment_id=segment_id)
    rows = await session.execute(_SELECT_MEMBERS, {"segment_id": segment_id, "before": before, "limit": size + 1})
    return profiles_page([profile_of(row) for row in rows], size, MEMBERS)


def _bytes_of(segment: Segment) -> int:
    return FRAME + 4 * len(segment.name) + len(json.dumps(rules.show(segment.rule)).encode())


def _check(name: str, request_id: str) -> None:
    if not name.strip() or len(name) > LONGEST_NAME or not name.isprintable():
        raise InvalidSegment(f"a name has 1 to {LONGEST_NAME} printable characters; give another", field="name")
    if len(request_id) > LONGEST_REQUEST_ID or "\x00" in request_id:
        raise InvalidSegment(f"a request id has at most {LONGEST_REQUEST_ID} characters", field="request_id")


def _segment(row: Row[Any]) -> Segment:
    return Segment(row.id, row.name, rules.read(row.rule), row.member_count, row.state, row.create_time)


async def _lock(session: AsyncSession, workspace_id: UUID) -> None:
    """Lets the workspace's segments be created one after the other, so that none passes the limit."""
    await session.execute(_LOCK_WORKSPACE, {"workspace": str(workspace_id)})


async def _count(session: AsyncSession, workspace_id: UUID) -> int:
    rows = await session.execute(_COUNT, {"workspace_id": workspace_id})
    return int(rows.scalar_one())


async def _of_request(session: AsyncSession, workspace_id: UUID, request_id: str) -> Segment | None:
    rows = await session.execute(_SELECT_OF_REQUEST, {"workspace_id": workspace_id, "request_id": request_id})
    row = rows.one_or_none()
    return _segment(row) if row else None


async def _insert(
    session: AsyncSession,
    segment_id: UUID,
    workspace_id: UUID,
    *,
    request_id: str,
    name: str,
    rule: Rule,
    now: datetime,
) -> bool:
    rows = await session.execute(
        _INSERT,
        {
            "id": segment_id,
            "workspace_id": workspace_id,
            "name": name,
            "request_id": request_id,
            "rule": json.dumps(rules.show(rule)),
            "rule_attributes": sorted(rules.attributes_of(rule)),
            "traceparent": current_traceparent(),
            "now": now,
        },
    )
    return rows.one_or_none() is not None


_COLUMNS = "id, name, rule, member_count, state, create_time"
_ALIVE = "state <> 'deleting'"

_DELETE = text(
    """
    UPDATE segment SET state = 'deleting', name = CAST(id AS text), request_id = NULL
    WHERE id = :id AND workspace_id = :workspace_id AND state <> 'deleting' RETURNING id
    """
)

_SELECT_SEGMENT = text(f"SELECT {_COLUMNS} FROM segment WHERE id = :id AND workspace_id = :workspace_id AND {_ALIVE}")

_SELECT_PAGE = text(
    f"""
    SELECT {_COLUMNS} FROM segment WHERE workspace_id = :workspace_id AND id < :before AND {_ALIVE}
    ORDER BY id DESC LIMIT :limit
    """
)

_SELECT_MEMBERS = text(
    f"""
    SELECT {COLUMNS} FROM membership JOIN profile ON profile.id = membership.profile_id
    WHERE segment_id = :segment_id AND leave_time IS NULL AND membership.profile_id < :before
    ORDER BY membership.profile_id DESC LIMIT :limit
    """
)

_LOCK_WORKSPACE = text("SELECT pg_advisory_xact_lock(hashtextextended('segments ' || CAST(:workspace AS text), 0))")

_COUNT = text(f"SELECT count(*) FROM segment WHERE workspace_id = :workspace_id AND {_ALIVE}")

_SELECT_OF_REQUEST = text(
    f"SELECT {_COLUMNS} FROM segment WHERE workspace_id = :workspace_id AND request_id = :request_id"
)

_INSERT = text(
    """
    INSERT INTO segment (id, workspace_id, name, request_id, rule, rule_attributes, state, member_count, traceparent,
        create_time)
    VALUES (:id, :workspace_id, :name, NULLIF(:request_id, ''), CAST(:rule AS jsonb), :rule_attributes, 'filling', 0,
        :traceparent, :now)
    ON CONFLICT (workspace_id, name) DO NOTHING RETURNING id
    """
)
