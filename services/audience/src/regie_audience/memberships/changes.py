"""Memberships follow every change of a profile, and their changes are staged as events.

Locks are always taken in this order, which is why nothing here deadlocks: profiles by external id, memberships,
segments by id. Whoever writes a membership holds its profile. Changes of a workspace's profiles mark themselves with
a shared lock for as long as they last, so that `work` can wait for those that do not know a segment yet
(ADR 0024).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from uuid import UUID

from regie.audience.events.v1.audience_events_pb2 import SegmentEntered, SegmentLeft
from regie.ids.v1.prefixes import PROFILE, SEGMENT
from regie_chassis.boundary.ids import show_id
from regie_chassis.data.bulk import Columns
from regie_chassis.events.outbox import stage
from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncSession

from regie_audience import telemetry
from regie_audience.attributes import Attributes
from regie_audience.memberships.states import SegmentState
from regie_audience.rules.matching import Matcher, matcher_of
from regie_audience.rules.model import cost_of, parse_rule

MAX_PAIRS = 5_000  # of a segment and a profile, in one statement
CONDITIONS_A_TURN = 2_000  # then other work of the process has its turn; about a millisecond
COMPILED_RULES = 4_096  # kept by a process
COMPILING = 10  # times what judging one profile costs


@dataclass(frozen=True, slots=True)
class ChangedProfile:
    """A profile as it is after a change, its row locked, the changed names, and the trace of what changed it.

    A created one is in no segment yet.
    """

    profile_id: UUID
    attributes: Attributes
    changed: Sequence[str]
    created: bool
    traceparent: str


@dataclass(frozen=True, slots=True)
class _Segment:
    id: UUID
    state: SegmentState
    rule: str


@dataclass(frozen=True, slots=True)
class _Compiled:
    matches: Matcher
    cost: int


@dataclass(slots=True)
class _Moves:
    """Profiles that enter and leave a segment."""

    segment: _Segment
    entered: list[UUID] = field(default_factory=list)
    left: list[UUID] = field(default_factory=list)

    @property
    def growth(self) -> int:
        return len(self.entered) - len(self.left)


async def mark_change(session: AsyncSession, workspace_id: UUID) -> None:
    """Marks the transaction as one that changes profiles of the workspace. Never waits."""
    await session.execute(_MARK_CHANGE, {"workspace": str(workspace_id)})


async def changes_under_way(session: AsyncSession, workspace_id: UUID) -> set[str]:
    """Returns the transactions that change profiles of the workspace now."""
    rows = await session.execute(_UNDER_WAY, {"workspace": str(workspace_id)})
    return set(rows.scalars())


async def reevaluate(
    session: AsyncSession, *, workspace_id: UUID, changed: Sequence[ChangedProfile], now: datetime
) -> None:
    """Lets changed profiles enter and leave the workspace's segments, and stages it. Expects `mark_change`.

    Segments whose rules look at no changed attribute are left out.
    """
    if not changed:
        return
    segments = await _touched(session, workspace_id, changed)
    in_order = sorted(changed, key=lambda profile: profile.profile_id.int)
    step = max(1, MAX_PAIRS // len(changed))
    moves: list[_Moves] = []
    for begin in range(0, len(segments), step):
        moves += await _move(session, segments[begin : begin + step], in_order, now=now)
    states = await _count(session, moves)
    traces = {profile.profile_id: profile.traceparent for profile in changed}
    _stage(session, moves, states, traces, workspace_id=workspace_id, now=now)
    telemetry.memberships_changed(
        entered=sum(len(move.entered) for move in moves), left=sum(len(move.left) for move in moves)
    )


async def _move(
    session: AsyncSession, segments: Sequence[_Segment], changed: Sequence[ChangedProfile], *, now: datetime
) -> list[_Moves]:
    matching_by_segment = await _judge(segments, changed)
    current = await _current(session, segments, [profile.profile_id for profile in changed if not profile.created])
    moves = []
    for segment in segments:
        matching, members = matching_by_segment[segment.id], current.get(segment.id, set())
        move = _Moves(segment)
        for profile in changed:
            is_member = profile.profile_id in members
            if (profile.profile_id in matching) != is_member:
                (move.left if is_member else move.entered).append(profile.profile_id)
        moves.append(move)
    await _write(session, _ENTER, [(move.segment.id, move.entered) for move in moves], now=now)
    await _write(session, _LEAVE, [(move.segment.id, move.left) for move in moves], now=now)
    return [move for move in moves if move.entered or move.left]


async def _judge(segments: Sequence[_Segment], changed: Sequence[ChangedProfile]) -> dict[UUID, set[UUID]]:
    """Returns who matches each segment. Lets other work of the process go on in between, however many there are."""
    matching_by_segment: dict[UUID, set[UUID]] = {}
    spent = 0
    for segment in segments:
        rule = _compiled(segment.rule)
        spent += rule.cost * COMPILING
        matching = matching_by_segment[segment.id] = set()
        for profile in changed:
            if spent >= CONDITIONS_A_TURN:
                spent = 0
                await asyncio.sleep(0)
            if rule.matches(profile.attributes):
                matching.add(profile.profile_id)
            spent += rule.cost
    return matching_by_segment


@lru_cache(maxsize=COMPILED_RULES)
def _compiled(rule: str) -> _Compiled:
    parsed = parse_rule(json.loads(rule))
    return _Compiled(matcher_of(parsed), cost_of(parsed))


def _stage(
    session: AsyncSession,
    moves: Iterable[_Moves],
    states: Mapping[UUID, SegmentState],
    traces: Mapping[UUID, str],
    *,
    workspace_id: UUID,
    now: datetime,
) -> None:
    """Stages one event for each segment, direction and cause, however many profiles it is about.

    A filling stages none of them: `SegmentFilled` counts the members at its end.
    """
    for move in moves:
        if states.get(move.segment.id, move.segment.state) is not SegmentState.ACTIVE:
            continue
        segment_id = show_id(SEGMENT, move.segment.id)
        for kind, profile_ids in ((SegmentEntered, move.entered), (SegmentLeft, move.left)):
            for traceparent, together in _by_trace(profile_ids, traces):
                stage(
                    session,
                    kind(
                        segment_id=segment_id,
                        profile_id=together[0] if len(together) == 1 else "",
                        profile_ids=together,
                    ),
                    workspace_id=workspace_id,
                    time=now,
                    traceparent=traceparent,
                )


def _by_trace(profile_ids: Iterable[UUID], traces: Mapping[UUID, str]) -> Iterator[tuple[str, list[str]]]:
    by: dict[str, list[str]] = {}
    for profile_id in profile_ids:
        by.setdefault(traces[profile_id], []).append(show_id(PROFILE, profile_id))
    return iter(by.items())


async def _touched(session: AsyncSession, workspace_id: UUID, changed: Sequence[ChangedProfile]) -> Sequence[_Segment]:
    rows = await session.execute(
        _FIND_TOUCHED,
        {
            "workspace_id": workspace_id,
            # A new profile may match by what it has not.
            "every": any(profile.created for profile in changed),
            "names": sorted({name for profile in changed for name in profile.changed}),
        },
    )
    return [_Segment(row.id, SegmentState(row.state), row.rule) for row in rows]


async def _current(
    session: AsyncSession, segments: Sequence[_Segment], profile_ids: Sequence[UUID]
) -> dict[UUID, set[UUID]]:
    members: dict[UUID, set[UUID]] = {}
    if segments and profile_ids:
        rows = await session.execute(
            _FIND_CURRENT, {"profiles": list(profile_ids), "segments": [segment.id for segment in segments]}
        )
        for row in rows:
            members.setdefault(row.segment_id, set()).add(row.profile_id)
    return members


async def _write(
    session: AsyncSession, statement: TextClause, moved: Iterable[tuple[UUID, Sequence[UUID]]], *, now: datetime
) -> None:
    pairs = [(segment_id, profile_id) for segment_id, profile_ids in moved for profile_id in profile_ids]
    if pairs:
        await session.execute(statement, {"now": now, **_MOVED.parameters(pairs)})


async def _count(session: AsyncSession, moves: Sequence[_Moves]) -> dict[UUID, SegmentState]:
    """Adds to the segments' counts, and returns the state of those that it held, as it is now.

    Last of all, since every change of a profile in a segment waits here for the one before it to commit. A segment
    that was being filled is held in any case: its state decides which events are staged, and it may be filled by now.
    """
    held = [move for move in moves if move.growth or move.segment.state is not SegmentState.ACTIVE]
    if not held:
        return {}
    rows = await session.execute(_HOLD_SEGMENTS, {"ids": [move.segment.id for move in held]})
    states = {row.id: SegmentState(row.state) for row in rows}
    await session.execute(_ADD_TO_COUNTS, _GROWTH.parameters((move.segment.id, move.growth) for move in held))
    return states


_KEY = "hashtextextended('audience ' || CAST(:workspace AS text), 0)"
_MARK_CHANGE = text(f"SELECT pg_advisory_xact_lock_shared({_KEY})")

_UNDER_WAY = text(
    f"""
    SELECT virtualtransaction FROM pg_locks
    WHERE locktype = 'advisory' AND objsubid = 1 AND pid <> pg_backend_pid()
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND (CAST(classid AS bigint) << 32) | CAST(objid AS bigint) = {_KEY}
    """
)

_FIND_TOUCHED = text(
    f"""
    SELECT id, state, CAST(rule AS text) AS rule FROM segment
    WHERE workspace_id = :workspace_id AND state <> '{SegmentState.DELETING}'
      AND (:every OR rule_attributes IS NULL OR rule_attributes && CAST(:names AS text[]))
    ORDER BY id
    """
)

_FIND_CURRENT = text(
    """
    SELECT segment_id, profile_id FROM membership
    WHERE profile_id = ANY(CAST(:profiles AS uuid[])) AND segment_id = ANY(CAST(:segments AS uuid[]))
      AND leave_time IS NULL
    """
)

_MOVED = Columns(segment_id="uuid", profile_id="uuid")

_ENTER = text(
    f"""
    INSERT INTO membership (segment_id, profile_id, enter_time)
    SELECT segment_id, profile_id, :now FROM {_MOVED.unnest}
    ON CONFLICT (segment_id, profile_id) DO UPDATE SET enter_time = EXCLUDED.enter_time, leave_time = NULL
    """
)

_LEAVE = text(
    f"""
    UPDATE membership SET leave_time = :now FROM {_MOVED.unnest}
    WHERE membership.segment_id = given.segment_id AND membership.profile_id = given.profile_id
      AND leave_time IS NULL
    """
)

_HOLD_SEGMENTS = text(
    "SELECT id, state FROM segment WHERE id = ANY(CAST(:ids AS uuid[])) ORDER BY id FOR NO KEY UPDATE"
)

_GROWTH = Columns(id="uuid", change="bigint")

_ADD_TO_COUNTS = text(
    f"""
    UPDATE segment SET member_count = member_count + change FROM {_GROWTH.unnest}
    WHERE segment.id = given.id AND change <> 0
    """
)
