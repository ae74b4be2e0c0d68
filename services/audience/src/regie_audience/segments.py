"""Named rules and whom they match: created and filled at once, previewed without being stored, read in pages.

A filling holds the workspace's profiles still for the time of one statement; who entered by it is said afterwards
by `announcements`. The count is kept in the segment's row, so that reading it costs the same at any size.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from regie_chassis.errors import Conflict, Invalid, NotFound
from regie_chassis.paging import Page, fitting, page_of, read_token
from regie_chassis.telemetry import current_traceparent
from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from regie_audience import memberships, rules, telemetry
from regie_audience.profiles import COLUMNS, Profile, bytes_of, profiles_page
from regie_audience.rules import Rule

LONGEST_NAME = 200  # characters
LONGEST_REQUEST_ID = 200  # characters
LIST = "segments"
MEMBERS = "members"
FRAME = 200  # bytes of a segment in an answer besides its texts


class InvalidSegment(Invalid):
    """A segment's name or request id has the wrong form."""


class SegmentNameTaken(Conflict):
    """Another segment of the workspace has this name."""


class RequestIdReused(Conflict):
    """A request id came back with another request."""


class SegmentNotFound(NotFound):
    """There is no such segment in the caller's workspace."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A named rule with its exact size."""

    id: UUID
    name: str
    rule: Rule
    member_count: int
    create_time: datetime


@dataclass(frozen=True, slots=True)
class Preview:
    """How many a rule would match, and the newest of them."""

    count: int
    sample: Sequence[Profile]


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
    """Creates a segment and fills it. Repeatable under its request id.

    Raises InvalidSegment, SegmentNameTaken and RequestIdReused.
    """
    _check(name, request_id)
    await memberships.lock_for_filling(session, workspace_id)
    known = await _of_request(session, workspace_id, request_id)
    if known is not None:
        if (known.name, known.rule) != (name, rule):
            raise RequestIdReused("this request id made another segment; give a new one", field="request_id")
        return known
    if not await _insert(session, segment_id, workspace_id, request_id=request_id, name=name, rule=rule, now=now):
        raise SegmentNameTaken("another segment has this name; give another", field="name")
    count = await memberships.fill(session, segment_id=segment_id, workspace_id=workspace_id, rule=rule, now=now)
    telemetry.segment_created(segment_id, count)
    return Segment(segment_id, name, rule, count, now)


async def get_segment(session: AsyncSession, *, workspace_id: UUID, segment_id: UUID) -> Segment:
    """Returns one segment. Raises SegmentNotFound."""
    rows = await session.execute(
        text(f"SELECT {_COLUMNS} FROM segment WHERE id = :id AND workspace_id = :workspace_id"),
        {"id": segment_id, "workspace_id": workspace_id},
    )
    row = rows.one_or_none()
    if row is None:
        raise SegmentNotFound("there is no such segment; check the id", field="segment_id")
    return _segment(row)


async def list_segments(session: AsyncSession, *, workspace_id: UUID, size: int, token: str) -> Page[Segment]:
    """Returns a page of segments, the newest first. Raises InvalidPageToken."""
    rows = await session.execute(
        text(
            f"SELECT {_COLUMNS} FROM segment WHERE workspace_id = :workspace_id AND id < :before"
            " ORDER BY id DESC LIMIT :limit"
        ),
        {"workspace_id": workspace_id, "before": read_token(LIST, token), "limit": size + 1},
    )
    return page_of([_segment(row) for row in rows], size=size, list_name=LIST, bytes_of=_bytes_of)


async def preview_segment(session: AsyncSession, *, workspace_id: UUID, rule: Rule, size: int) -> Preview:
    """Counts and samples whom a rule matches now; the two are read one after the other.

    The sample is smaller than asked for where one answer does not carry it.
    """
    condition, values = rules.compile_sql(rule)
    where = f"FROM profile WHERE workspace_id = :workspace_id AND {condition}"
    values |= {"workspace_id": workspace_id}
    count = await session.execute(text(f"SELECT count(*) {where}"), values)
    sample = await session.execute(
        text(f"SELECT {COLUMNS} {where} ORDER BY id DESC LIMIT :limit"), {**values, "limit": size}
    )
    return Preview(int(count.scalar_one()), fitting([Profile(*row) for row in sample], bytes_of))


async def list_segment_members(
    session: AsyncSession, *, workspace_id: UUID, segment_id: UUID, size: int, token: str
) -> Page[Profile]:
    """Returns a page of who is in a segment, the newest profiles first. Raises SegmentNotFound, InvalidPageToken."""
    before = read_token(MEMBERS, token)
    await get_segment(session, workspace_id=workspace_id, segment_id=segment_id)
    rows = await session.execute(
        text(
            f"SELECT {COLUMNS} FROM membership JOIN profile ON profile.id = membership.profile_id"
            " WHERE segment_id = :segment_id AND leave_time IS NULL AND membership.profile_id < :before"
            " ORDER BY membership.profile_id DESC LIMIT :limit"
        ),
        {"segment_id": segment_id, "before": before, "limit": size + 1},
    )
    return profiles_page([Profile(*row) for row in rows], size, MEMBERS)


_COLUMNS = "id, name, rule, member_count, create_time"


def _bytes_of(segment: Segment) -> int:
    return FRAME + 4 * len(segment.name) + len(json.dumps(rules.show(segment.rule)).encode())


def _check(name: str, request_id: str) -> None:
    if not name.strip() or len(name) > LONGEST_NAME or not name.isprintable():
        raise InvalidSegment(f"a name has 1 to {LONGEST_NAME} printable characters; give another", field="name")
    if len(request_id) > LONGEST_REQUEST_ID or "\x00" in request_id:
        raise InvalidSegment(f"a request id has at most {LONGEST_REQUEST_ID} characters", field="request_id")


def _segment(row: Row[Any]) -> Segment:
    return Segment(row.id, row.name, rules.read(row.rule), row.member_count, row.create_time)


async def _of_request(session: AsyncSession, workspace_id: UUID, request_id: str) -> Segment | None:
    rows = await session.execute(
        text(f"SELECT {_COLUMNS} FROM segment WHERE workspace_id = :workspace_id AND request_id = :request_id"),
        {"workspace_id": workspace_id, "request_id": request_id},
    )
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
        text(
            "INSERT INTO segment (id, workspace_id, name, request_id, rule, member_count, traceparent, create_time)"
            " VALUES (:id, :workspace_id, :name, NULLIF(:request_id, ''), CAST(:rule AS jsonb), 0, :traceparent, :now)"
            " ON CONFLICT (workspace_id, name) DO NOTHING RETURNING id"
        ),
        {
            "id": segment_id,
            "workspace_id": workspace_id,
            "name": name,
            "request_id": request_id,
            "rule": json.dumps(rules.show(rule)),
            "traceparent": current_traceparent(),
            "now": now,
        },
    )
    return rows.one_or_none() is not None
