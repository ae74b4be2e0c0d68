"""Reports of the publisher on its deliveries, and the state of a post that follows from them.

A batch of reports is written under the locks of their posts: two replicas that handle the last two deliveries of a
post at once would otherwise both miss its end. `delivery_events` makes the reports.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from regie.ids.v1.prefixes import CHANNEL, POST
from regie.scheduler.events.v1.scheduler_events_pb2 import PostFinished, PostOutcome
from regie_chassis.boundary.ids import show_id
from regie_chassis.boundary.telemetry import trace_id_of
from regie_chassis.data.bulk import Columns
from regie_chassis.events.outbox import stage
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from regie_scheduler import telemetry
from regie_scheduler.posts.protobuf import POST_STATES, VARIANT_STATES
from regie_scheduler.posts.states import (
    FINAL_STATES,
    ChangeCause,
    PostState,
    VariantState,
    has_ended,
    roll_up,
    supersedes,
)
from regie_scheduler.posts.timeline import Change, write_changes

MAX_OUTCOME_FAILURE = 500  # characters; PostFinished holds up to 50 of them


@dataclass(frozen=True, slots=True)
class DeliveryReport:
    """State of one delivery, from one event."""

    workspace_id: UUID
    post_id: UUID
    channel_id: UUID
    revision: int
    state: VariantState
    time: datetime
    traceparent: str
    delivery_id: str
    failure: str = ""
    failure_kind: str = ""
    remote_id: str = ""
    remote_url: str = ""
    segments: tuple[tuple[str, str], ...] = ()
    """The public segments, as (id, address)."""


async def apply_reports(session: AsyncSession, reports: Sequence[DeliveryReport]) -> None:
    """Writes the states that the reports change, and stages `PostFinished` for every post that has ended by then.

    Ignores reports on posts of other workspaces, on other revisions and on unknown posts, and reports that are older
    than the stored state.
    """
    posts = await _lock_posts(session, sorted({report.post_id for report in reports}))
    states, segments_out = await _variant_states(session, list(posts))
    applied: dict[tuple[UUID, UUID], DeliveryReport] = {}
    for report in reports:
        place = report.post_id, report.channel_id
        if not _concerns(report, posts.get(report.post_id), states) or not _is_news(
            report, states[report.post_id][report.channel_id], segments_out.get(place, 0)
        ):
            continue
        states[report.post_id][report.channel_id] = report.state
        applied[place] = report
        segments_out[place] = max(segments_out.get(place, 0), len(report.segments))
    if not applied:
        return
    await _update_variants(session, list(applied.values()))
    ended = [post_id for post_id in {report.post_id for report in applied.values()} if _has_ended(states[post_id])]
    outcomes = await _outcomes(session, ended)
    begun = {post_id for (post_id, _), count in segments_out.items() if count}
    changes: list[Change] = []
    moved = _roll_up_posts(session, posts, states, begun, list(applied.values()), outcomes, changes)
    await _update_posts(session, moved)
    await write_changes(session, changes)


@dataclass(frozen=True, slots=True)
class _Post:
    id: UUID
    workspace_id: UUID
    state: PostState
    revision: int
    update_time: datetime


def _is_news(report: DeliveryReport, current: VariantState, segments_out: int) -> bool:
    """True for a later state, and for another public segment of a delivery that has not ended: they only increase."""
    return supersedes(report.state, current) or (not has_ended(current) and len(report.segments) > segments_out)


def _concerns(report: DeliveryReport, post: _Post | None, states: Mapping[UUID, Mapping[UUID, VariantState]]) -> bool:
    if (
        post is None
        or post.workspace_id != report.workspace_id
        or report.channel_id not in states.get(report.post_id, {})
    ):
        telemetry.event_ignored(report.post_id, report.channel_id, "no such post or channel")
        return False
    if report.revision != post.revision or post.state not in FINAL_STATES | {PostState.DISPATCHED}:
        telemetry.event_ignored(report.post_id, report.channel_id, "another revision")
        return False
    return True


def _roll_up_posts(
    session: AsyncSession,
    posts: dict[UUID, _Post],
    states: dict[UUID, dict[UUID, VariantState]],
    begun: set[UUID],
    applied: Sequence[DeliveryReport],
    outcomes: dict[UUID, list[PostOutcome]],
    changes: list[Change],
) -> list[_Post]:
    """Returns the posts with another state or time. Appends their changes and stages their events."""
    latest = {report.post_id: report for report in sorted(applied, key=lambda report: report.time)}
    moved: list[_Post] = []
    for post_id, report in latest.items():
        post = posts[post_id]
        state = roll_up(states[post_id].values(), parts_out=post_id in begun)
        moved.append(replace(post, state=state, update_time=max(report.time, post.update_time)))
        if state is PostState.DISPATCHED:
            continue
        if state is not post.state:
            trace_id = trace_id_of(report.traceparent)
            changes.append(Change(post_id, report.time, state, ChangeCause.PUBLISHER, trace_id=trace_id))
            telemetry.post_finished(state)
        # An outcome that changes after the end is staged, too, even where the state of the post stays.
        stage(
            session,
            PostFinished(
                post_id=show_id(POST, post_id),
                state=POST_STATES[state],
                outcomes=outcomes[post_id],
                revision=post.revision,
            ),
            workspace_id=post.workspace_id,
            time=report.time,
            traceparent=report.traceparent,
        )
    return moved


def _has_ended(states: dict[UUID, VariantState]) -> bool:
    return roll_up(states.values()) is not PostState.DISPATCHED


async def _lock_posts(session: AsyncSession, post_ids: Sequence[UUID]) -> dict[UUID, _Post]:
    # In the order of ids, so that two replicas with the same posts wait for one another instead of locking up.
    rows = await session.execute(_LOCK, {"ids": list(post_ids)})
    return {
        row.id: _Post(row.id, row.workspace_id, PostState(row.state), row.revision, row.update_time) for row in rows
    }


async def _variant_states(
    session: AsyncSession, post_ids: Sequence[UUID]
) -> tuple[dict[UUID, dict[UUID, VariantState]], dict[tuple[UUID, UUID], int]]:
    """Returns the states of all variants by post and channel, and how many segments of each are public."""
    # A statement of its own: joined to the lock it would show the variants as they were before the wait for it.
    states: dict[UUID, dict[UUID, VariantState]] = {}
    segments_out: dict[tuple[UUID, UUID], int] = {}
    for post_id, channel_id, state, count in await session.execute(_STATES, {"ids": list(post_ids)}):
        states.setdefault(post_id, {})[channel_id] = VariantState(state)
        segments_out[post_id, channel_id] = count
    return states, segments_out


async def _outcomes(session: AsyncSession, post_ids: Sequence[UUID]) -> dict[UUID, list[PostOutcome]]:
    outcomes: dict[UUID, list[PostOutcome]] = {post_id: [] for post_id in post_ids}
    if not post_ids:
        return outcomes
    for row in await session.execute(_OUTCOMES, {"ids": list(post_ids)}):
        outcomes[row.post_id].append(
            PostOutcome(
                channel_id=show_id(CHANNEL, row.channel_id),
                delivery_id=row.delivery_id,
                state=VARIANT_STATES[VariantState(row.state)],
                remote_id=row.remote_id,
                remote_url=row.remote_url,
                failure_kind=row.failure_kind,
                failure=row.failure[:MAX_OUTCOME_FAILURE],
            )
        )
    return outcomes


async def _update_variants(session: AsyncSession, reports: Sequence[DeliveryReport]) -> None:
    rows = [
        (
            report.post_id,
            report.channel_id,
            report.state,
            report.time,
            report.remote_id,
            report.remote_url,
            report.failure,
            report.failure_kind,
            report.delivery_id,
            json.dumps(report.segments),
        )
        for report in reports
    ]
    await session.execute(_UPDATE_VARIANTS, _REPORTS.parameters(rows))


async def _update_posts(session: AsyncSession, posts: Sequence[_Post]) -> None:
    await session.execute(_UPDATE_POSTS, _POSTS.parameters_of(posts))


_LOCK = text(
    "SELECT id, workspace_id, state, revision, update_time FROM post"
    " WHERE id = ANY(CAST(:ids AS uuid[])) ORDER BY id FOR UPDATE"
)
_STATES = text(
    "SELECT post_id, channel_id, state, jsonb_array_length(remote_segments) AS segments_out FROM variant"
    " WHERE post_id = ANY(CAST(:ids AS uuid[]))"
)
_OUTCOMES = text(
    "SELECT post_id, channel_id, delivery_id, state, remote_id, remote_url, failure_kind, failure FROM variant"
    " WHERE post_id = ANY(CAST(:ids AS uuid[])) ORDER BY post_id, position"
)
_REPORTS = Columns(
    "report",
    post_id="uuid",
    channel_id="uuid",
    state="text",
    time="timestamptz",
    remote_id="text",
    remote_url="text",
    failure="text",
    failure_kind="text",
    delivery_id="text",
    segments="text",
)
_UPDATE_VARIANTS = text(
    f"""
    UPDATE variant
    SET state = report.state, state_time = report.time, remote_id = report.remote_id, remote_url = report.remote_url,
        failure = report.failure, failure_kind = report.failure_kind, delivery_id = report.delivery_id,
        remote_segments = CAST(report.segments AS jsonb)
    FROM {_REPORTS.unnest}
    WHERE variant.post_id = report.post_id AND variant.channel_id = report.channel_id
    """
)
_POSTS = Columns("rolled_up", id="uuid", state="text", update_time="timestamptz")
_UPDATE_POSTS = text(
    f"""
    UPDATE post SET state = rolled_up.state, update_time = rolled_up.update_time
    FROM {_POSTS.unnest}
    WHERE post.id = rolled_up.id
    """
)
