"""Who is in which segment: kept with every change of a profile, and said when it changed.

Locks are always taken in this order, which is why nothing here deadlocks: the workspace (shared by changes of
profiles, exclusive for the filling of a segment), profiles by external id, memberships, segments by id.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from regie.audience.events.v1.audience_events_pb2 import SegmentEntered, SegmentLeft
from regie_chassis.ids import PROFILE, SEGMENT, show_id
from regie_chassis.outbox import stage
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from regie_audience import rules, telemetry
from regie_audience.attributes import Attributes

ANNOUNCED_AT_ONCE = 1_000

Pair = tuple[UUID, UUID]
"""A segment and a profile."""


@dataclass(frozen=True, slots=True)
class ChangedProfile:
    """A profile as it is after a change, its row locked, and the trace of what changed it.

    A created one is in no segment yet.
    """

    profile_id: UUID
    attributes: Attributes
    created: bool
    traceparent: str


async def lock_for_change(session: AsyncSession, workspace_id: UUID) -> None:
    """Lets profiles of the workspace change until commit, and no segment be filled meanwhile."""
    await session.execute(text(f"SELECT pg_advisory_xact_lock_shared({_KEY})"), {"workspace": str(workspace_id)})


async def lock_for_filling(session: AsyncSession, workspace_id: UUID) -> None:
    """Holds every profile of the workspace still until commit, so that a filling misses and doubles nobody."""
    await session.execute(text(f"SELECT pg_advisory_xact_lock({_KEY})"), {"workspace": str(workspace_id)})


async def reevaluate(
    session: AsyncSession, *, workspace_id: UUID, changed: Sequence[ChangedProfile], now: datetime
) -> None:
    """Lets changed profiles enter and leave the workspace's segments, and says so. Expects `lock_for_change`."""
    known = await _rules_of(session, workspace_id)
    if not known or not changed:
        return
    wanted = {
        (segment_id, one.profile_id)
        for segment_id, rule in known
        for one in changed
        if rules.matches(rule, one.attributes)
    }
    current = await _current(session, [one.profile_id for one in changed if not one.created])
    entered, left = sorted(wanted - current.keys()), sorted(current.keys() - wanted)
    await _enter(session, entered, now=now)
    await _leave(session, left, now=now)
    await _count(session, entered, left)
    # Who left before the entry was said leaves in silence, since nobody was told of it.
    traces = {one.profile_id: one.traceparent for one in changed}
    told = [pair for pair in left if current[pair]]
    _say(session, entered, told, traces, workspace_id=workspace_id, now=now)
    telemetry.memberships_changed(entered=len(entered), left=len(left))


async def fill(session: AsyncSession, *, segment_id: UUID, workspace_id: UUID, rule: rules.Rule, now: datetime) -> int:
    """Puts everybody whom the rule matches into a new segment and returns how many. Expects `lock_for_filling`.

    The entries are said later and in bounded numbers by `announce_entries`.
    """
    condition, values = rules.compile_sql(rule)
    rows = await session.execute(
        text(
            f"""
            WITH filled AS (
                INSERT INTO membership (segment_id, profile_id, enter_time, announced)
                SELECT :segment_id, id, :now, false FROM profile
                WHERE workspace_id = :workspace_id AND {condition} ORDER BY id
                RETURNING 1
            )
            UPDATE segment SET member_count = (SELECT count(*) FROM filled) WHERE id = :segment_id
            RETURNING member_count
            """
        ),
        {"segment_id": segment_id, "workspace_id": workspace_id, "now": now, **values},
    )
    return int(rows.scalar_one())


async def announce_entries(session: AsyncSession) -> int:
    """Says up to ANNOUNCED_AT_ONCE entries of fillings and returns how many; callers at once share the work."""
    rows = await session.execute(
        text(
            """
            UPDATE membership SET announced = true
            FROM (
                SELECT segment_id, profile_id FROM membership WHERE NOT announced
                LIMIT :limit FOR UPDATE SKIP LOCKED
            ) AS unsaid, segment
            WHERE membership.segment_id = unsaid.segment_id AND membership.profile_id = unsaid.profile_id
              AND segment.id = unsaid.segment_id
            RETURNING membership.segment_id, membership.profile_id, enter_time, workspace_id, traceparent
            """
        ),
        {"limit": ANNOUNCED_AT_ONCE},
    )
    found = rows.all()
    for row in found:
        segment_id, profile_id = show_id(SEGMENT, row.segment_id), show_id(PROFILE, row.profile_id)
        stage(
            session,
            SegmentEntered(segment_id=segment_id, profile_id=profile_id),
            workspace_id=row.workspace_id,
            aggregate_id=profile_id,
            time=row.enter_time,
            traceparent=row.traceparent,
        )
    return len(found)


def _say(
    session: AsyncSession,
    entered: Iterable[Pair],
    left: Iterable[Pair],
    traces: Mapping[UUID, str],
    *,
    workspace_id: UUID,
    now: datetime,
) -> None:
    for kind, pairs in ((SegmentEntered, entered), (SegmentLeft, left)):
        for segment_id, profile_id in pairs:
            shown = show_id(PROFILE, profile_id)
            stage(
                session,
                kind(segment_id=show_id(SEGMENT, segment_id), profile_id=shown),
                workspace_id=workspace_id,
                aggregate_id=shown,
                time=now,
                traceparent=traces[profile_id],
            )


_KEY = "hashtextextended('audience ' || CAST(:workspace AS text), 0)"


async def _rules_of(session: AsyncSession, workspace_id: UUID) -> list[tuple[UUID, rules.Rule]]:
    rows = await session.execute(
        text("SELECT id, rule FROM segment WHERE workspace_id = :workspace_id"), {"workspace_id": workspace_id}
    )
    return [(row.id, rules.read(row.rule)) for row in rows]


async def _current(session: AsyncSession, profile_ids: Sequence[UUID]) -> Mapping[Pair, bool]:
    """Returns the memberships of profiles, each with whether its entry was said, and holds them."""
    if not profile_ids:
        return {}
    rows = await session.execute(
        text(
            "SELECT segment_id, profile_id, announced FROM membership"
            " WHERE profile_id = ANY(CAST(:profiles AS uuid[])) AND leave_time IS NULL FOR UPDATE"
        ),
        {"profiles": list(profile_ids)},
    )
    return {(row.segment_id, row.profile_id): row.announced for row in rows}


async def _enter(session: AsyncSession, pairs: Sequence[Pair], *, now: datetime) -> None:
    if pairs:
        await session.execute(
            text(
                "INSERT INTO membership (segment_id, profile_id, enter_time, announced)"
                " SELECT segment_id, profile_id, :now, true FROM"
                " unnest(CAST(:segments AS uuid[]), CAST(:profiles AS uuid[])) AS given (segment_id, profile_id)"
                " ON CONFLICT (segment_id, profile_id)"
                " DO UPDATE SET enter_time = EXCLUDED.enter_time, leave_time = NULL, announced = true"
            ),
            {"now": now, **_columns(pairs)},
        )


async def _leave(session: AsyncSession, pairs: Sequence[Pair], *, now: datetime) -> None:
    if pairs:
        await session.execute(
            text(
                "UPDATE membership SET leave_time = :now, announced = true FROM"
                " unnest(CAST(:segments AS uuid[]), CAST(:profiles AS uuid[])) AS given (segment_id, profile_id)"
                " WHERE membership.segment_id = given.segment_id AND membership.profile_id = given.profile_id"
                " AND leave_time IS NULL"
            ),
            {"now": now, **_columns(pairs)},
        )


def _columns(pairs: Sequence[Pair]) -> dict[str, list[UUID]]:
    return {"segments": [segment_id for segment_id, _ in pairs], "profiles": [profile_id for _, profile_id in pairs]}


async def _count(session: AsyncSession, entered: Iterable[Pair], left: Iterable[Pair]) -> None:
    # Last of all, since every change of a profile in a segment waits here for the one before it to commit.
    by: dict[UUID, int] = {}
    for pairs, step in ((entered, 1), (left, -1)):
        for segment_id, _ in pairs:
            by[segment_id] = by.get(segment_id, 0) + step
    changes = {segment_id: change for segment_id, change in by.items() if change}
    if not changes:
        return
    await session.execute(
        text("SELECT id FROM segment WHERE id = ANY(CAST(:ids AS uuid[])) ORDER BY id FOR NO KEY UPDATE"),
        {"ids": list(changes)},
    )
    await session.execute(
        text(
            "UPDATE segment SET member_count = member_count + change"
            " FROM unnest(CAST(:ids AS uuid[]), CAST(:changes AS bigint[])) AS given (id, change)"
            " WHERE segment.id = given.id"
        ),
        {"ids": list(changes), "changes": list(changes.values())},
    )
