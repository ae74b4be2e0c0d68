"""Segments are created and deleted.

Both answer at once: `memberships.work` fills a new segment and removes the members of a deleted one. The count is kept
in the segment's row, so that reading it costs the same at any size.
"""

from __future__ import annotations

import json
from datetime import datetime
from uuid import UUID

from regie.audience.events.v1.audience_events_pb2 import SegmentDeleted
from regie.ids.v1.prefixes import SEGMENT
from regie_chassis.boundary.errors import Conflict, Invalid
from regie_chassis.boundary.ids import show_id
from regie_chassis.boundary.telemetry import current_traceparent
from regie_chassis.events.outbox import stage
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from regie_audience.memberships.states import SegmentState
from regie_audience.memberships.work import add_work
from regie_audience.rules.model import Rule, attributes_of, dump_rule
from regie_audience.segments.queries import ALIVE, COLUMNS, Segment, SegmentNotFound, get_segment, segment_of

MAX_SEGMENTS = 200  # of a workspace: each new profile is judged by all of them

MAX_NAME = 200  # characters
MAX_REQUEST_ID = 200  # characters


class InvalidSegment(Invalid):
    """A segment's name or request id has the wrong form."""


class SegmentNameTaken(Conflict):
    """Another segment of the workspace has this name."""


class TooManySegments(Conflict):
    """The workspace has as many segments as it may have."""


class RequestIdReused(Conflict):
    """A request id came back with another request."""


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
    """Creates a segment that `memberships.work` fills. Repeatable under its request id.

    Raises InvalidSegment, SegmentNameTaken, TooManySegments and RequestIdReused.
    """
    _check(name, request_id)
    await _lock(session, workspace_id)
    existing = await _of_request(session, workspace_id, request_id)
    if existing is not None:
        if (existing.name, existing.rule) != (name, rule):
            raise RequestIdReused("this request id made another segment; give a new one", field="request_id")
        return existing
    if await _count(session, workspace_id) >= MAX_SEGMENTS:
        raise TooManySegments(f"the workspace has {MAX_SEGMENTS} segments, the most it may have; delete one first")
    if not await _insert(session, segment_id, workspace_id, request_id=request_id, name=name, rule=rule, now=now):
        raise SegmentNameTaken("another segment has this name; give another", field="name")
    await add_work(session, segment_id=segment_id, workspace_id=workspace_id, now=now)
    return Segment(segment_id, name, rule, 0, SegmentState.FILLING, now)


async def delete_segment(session: AsyncSession, *, workspace_id: UUID, segment_id: UUID, now: datetime) -> None:
    """Deletes a segment at once; `memberships.work` removes its members. Raises SegmentNotFound, also when repeated."""
    await get_segment(session, workspace_id=workspace_id, segment_id=segment_id)
    # The work first: a chunk holds it and then the segment.
    await add_work(session, segment_id=segment_id, workspace_id=workspace_id, now=now)
    rows = await session.execute(_DELETE, {"id": segment_id, "workspace_id": workspace_id})
    if rows.one_or_none() is None:
        raise SegmentNotFound("there is no such segment; check the id", field="segment_id")
    event = SegmentDeleted(segment_id=show_id(SEGMENT, segment_id))
    stage(session, event, workspace_id=workspace_id, time=now)


def _check(name: str, request_id: str) -> None:
    if not name.strip() or len(name) > MAX_NAME or not name.isprintable():
        raise InvalidSegment(f"a name has 1 to {MAX_NAME} printable characters; give another", field="name")
    if len(request_id) > MAX_REQUEST_ID or "\x00" in request_id:
        raise InvalidSegment(f"a request id has at most {MAX_REQUEST_ID} characters", field="request_id")


async def _lock(session: AsyncSession, workspace_id: UUID) -> None:
    """Lets the workspace's segments be created one after the other, so that none passes the limit."""
    await session.execute(_LOCK_WORKSPACE, {"workspace": str(workspace_id)})


async def _count(session: AsyncSession, workspace_id: UUID) -> int:
    rows = await session.execute(_COUNT, {"workspace_id": workspace_id})
    return int(rows.scalar_one())


async def _of_request(session: AsyncSession, workspace_id: UUID, request_id: str) -> Segment | None:
    rows = await session.execute(_SELECT_OF_REQUEST, {"workspace_id": workspace_id, "request_id": request_id})
    row = rows.one_or_none()
    return segment_of(row) if row else None


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
            "rule": json.dumps(dump_rule(rule)),
            "rule_attributes": sorted(attributes_of(rule)),
            "traceparent": current_traceparent(),
            "now": now,
        },
    )
    return rows.one_or_none() is not None


_DELETE = text(
    f"""
    UPDATE segment SET state = '{SegmentState.DELETING}', name = CAST(id AS text), request_id = NULL
    WHERE id = :id AND workspace_id = :workspace_id AND {ALIVE} RETURNING id
    """
)

_LOCK_WORKSPACE = text("SELECT pg_advisory_xact_lock(hashtextextended('segments ' || CAST(:workspace AS text), 0))")

_COUNT = text(f"SELECT count(*) FROM segment WHERE workspace_id = :workspace_id AND {ALIVE}")

_SELECT_OF_REQUEST = text(
    f"SELECT {COLUMNS} FROM segment WHERE workspace_id = :workspace_id AND request_id = :request_id"
)

_INSERT = text(
    f"""
    INSERT INTO segment (id, workspace_id, name, request_id, rule, rule_attributes, state, member_count, traceparent,
        create_time)
    VALUES (:id, :workspace_id, :name, NULLIF(:request_id, ''), CAST(:rule AS jsonb), :rule_attributes,
        '{SegmentState.FILLING}', 0,
        :traceparent, :now)
    ON CONFLICT (workspace_id, name) DO NOTHING RETURNING id
    """
)
