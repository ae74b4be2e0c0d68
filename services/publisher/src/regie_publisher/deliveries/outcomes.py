"""Records outcomes: state, attempt, history and event of many deliveries in one statement and one transaction.

Every write carries the fence of the claim. A write with an outdated fence changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import structlog
from regie.ids.v1.prefixes import DELIVERY
from regie_chassis.boundary.ids import show_id
from regie_chassis.boundary.telemetry import trace_id_of
from regie_chassis.boundary.text import storable
from regie_chassis.data.bulk import Columns
from regie_networks.draft import Remote
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from regie_publisher.channels.restrictions import HAS_RESTRICTIONS
from regie_publisher.deliveries.channel_effects import update_channels
from regie_publisher.deliveries.decisions import while_in_doubt
from regie_publisher.deliveries.delivery import FIND_DELAY, Outcome, RecordedOutcome, State
from regie_publisher.deliveries.events import stage_outcome
from regie_publisher.deliveries.telemetry import count_outcomes
from regie_publisher.metric_collection.schedule import FirstCollection, schedule_collections

log = structlog.get_logger()


async def record(session: AsyncSession, outcomes: Sequence[RecordedOutcome], *, now: datetime) -> list[bool]:
    """Records outcomes and stages their events. Returns for each whether its delivery was still claimed.

    Repeatable: an outcome that is recorded already changes nothing and returns False.
    """
    outcomes = [_with(one, _storable(while_in_doubt(one.delivery, one.outcome, now))) for one in outcomes]
    # Rows are locked in the order of their ids everywhere, so that a cancellation and a batch never deadlock.
    in_order = sorted(outcomes, key=lambda one: one.delivery.id)
    columns = {"now": now, "again": now + FIND_DELAY, **_WANTED.parameters(map(_row, in_order))}
    rows = {row.id: row for row in await session.execute(_RECORD, columns)}
    for one in outcomes:
        if one.delivery.id not in rows:
            log.warning("delivery.fenced_off", delivery=show_id(DELIVERY, one.delivery.id), fence=one.delivery.fence)
    recorded = [_as_recorded(one, rows[one.delivery.id]) for one in outcomes if one.delivery.id in rows]
    for one in recorded:
        _stage(session, one, _remotes_after(one), now)
    published = [one for one in recorded if one.outcome.state is State.PUBLISHED]
    await schedule_collections(session, [_first_collection(one, _remotes_after(one)) for one in published], now=now)
    await update_channels(session, recorded, {row.id for row in rows.values() if row.has_restrictions}, now)
    count_outcomes(session, recorded)
    # An attempt whose post belongs to another delivery ends here, as if its claim were lost.
    return [one.delivery.id in rows and not rows[one.delivery.id].taken for one in outcomes]


def _stage(session: AsyncSession, recorded: RecordedOutcome, remotes: Sequence[Remote], now: datetime) -> None:
    delivery, outcome = recorded.delivery, recorded.outcome
    if outcome.state is State.UNKNOWN:
        call_end, quiet_end = outcome.call_end or delivery.call_end, outcome.quiet_end or delivery.quiet_end
        outcome = replace(outcome, call_end=call_end, quiet_end=quiet_end)
    stage_outcome(
        session,
        delivery,
        outcome,
        time=now,
        traceparent=recorded.traceparent,
        segment_count=len(delivery.segment_keys),
        remotes=remotes,
    )


def _remotes_after(recorded: RecordedOutcome) -> list[Remote]:
    """Returns the public segments as they are stored now: those of the claim, and the one of the outcome."""
    remotes = [_storable_remote(remote) for remote in recorded.delivery.remotes]
    return [*remotes, recorded.outcome.remote] if recorded.outcome.remote else remotes


def _first_collection(recorded: RecordedOutcome, remotes: Sequence[Remote]) -> FirstCollection:
    delivery = recorded.delivery
    return FirstCollection(
        delivery.id,
        delivery.workspace_id,
        delivery.post_id,
        delivery.channel_id,
        delivery.network,
        remotes[0] if remotes else Remote("", ""),
        recorded.traceparent,
    )


def _as_recorded(one: RecordedOutcome, row: Any) -> RecordedOutcome:
    """Returns the outcome that the row shows: another one if a different delivery of the account holds the post."""
    if not row.taken:
        return one
    outcome = replace(
        one.outcome,
        state=State.UNKNOWN,
        next_action_time=row.next_action_time,
        message=row.message,
        remote=None,
        needs_person=row.needs_person,
        announce=True,
        call_end=row.call_end_time,
        quiet_end=row.quiet_end_time,
    )
    return replace(one, outcome=outcome)


def _with(one: RecordedOutcome, outcome: Outcome) -> RecordedOutcome:
    return one if outcome is one.outcome else replace(one, outcome=outcome)


def _storable(outcome: Outcome) -> Outcome:
    """Returns the outcome with texts that PostgreSQL takes; usually that is the outcome itself."""
    remote = outcome.remote and _storable_remote(outcome.remote)
    texts = (outcome.message, outcome.detail, outcome.processing_handle)
    storables = tuple(storable(one) for one in texts)
    if remote is outcome.remote and storables == texts:
        return outcome
    message, detail, processing_handle = storables
    return replace(outcome, message=message, detail=detail, processing_handle=processing_handle, remote=remote)


def _storable_remote(remote: Remote) -> Remote:
    id_ = storable(remote.id)
    return remote if id_ == remote.id else Remote(id_, remote.url)


def _row(recorded: RecordedOutcome) -> tuple[object, ...]:
    """Returns the outcome's values in the order of _WANTED."""
    delivery, outcome = recorded.delivery, recorded.outcome
    remote = outcome.remote
    return (
        delivery.id,
        delivery.fence,
        len(delivery.remotes),
        ",".join(recorded.expected),
        outcome.state.value,
        outcome.cause.value,
        outcome.next_action_time,
        outcome.message,
        outcome.detail,
        outcome.failure_kind.value if outcome.failure_kind else "",
        remote.id if remote else None,
        remote.url if remote else None,
        remote.id if remote else "",
        outcome.processing_handle,
        outcome.consecutive_attempts,
        outcome.lookups,
        outcome.needs_person,
        trace_id_of(recorded.traceparent),
        outcome.call_end,
        outcome.quiet_end,
        outcome.empty_lookups,
        outcome.proven,
    )


_WANTED = Columns(
    "w",
    id="uuid",
    fence="bigint",
    done="int",
    expected="text",
    state="text",
    cause="text",
    next_action_time="timestamptz",
    message="text",
    detail="text",
    kind="text",
    remote_id="text",
    remote_url="text",
    holds="text",
    handle="text",
    consecutive_attempts="int",
    lookups="int",
    person="bool",
    trace_id="text",
    call_end="timestamptz",
    quiet_end="timestamptz",
    empty_lookups="int",
    proven="bool",
)

# A post belongs to one delivery of an account. If another delivery holds it, this one stays unknown: after a lookup it
# is looked up again, after the answer to a publish a person has to settle it.
_RECORD = text(
    f"""
    WITH held AS MATERIALIZED (
        SELECT w.*, d.channel_id FROM delivery AS d JOIN {_WANTED.unnest} ON d.id = w.id
        WHERE d.fence = w.fence AND d.state = ANY(string_to_array(w.expected, ','))
          AND cardinality(d.remote_ids) = w.done
        ORDER BY d.id FOR UPDATE OF d
    ), claimed AS (
        INSERT INTO remote (network, account, remote_id, delivery_id, segment, time)
        SELECT c.network, c.server_url || ' ' || c.account, held.holds, held.id, held.done, :now
        FROM held JOIN channel AS c ON c.id = held.channel_id
        WHERE held.holds <> ''
        ORDER BY 1, 2, 3
        ON CONFLICT DO NOTHING
        RETURNING delivery_id
    ), judged AS MATERIALIZED (
        SELECT *, holds <> '' AND id NOT IN (SELECT delivery_id FROM claimed) AS taken FROM held
    ), moved AS (
        UPDATE delivery AS d SET
            state = CASE WHEN w.taken THEN 'unknown' ELSE w.state END,
            next_action_time = CASE WHEN NOT w.taken THEN w.next_action_time
                WHEN w.cause = 'find' THEN CAST(:again AS timestamptz) END,
            network_message = CASE WHEN w.taken
                THEN 'another delivery of this account holds the post that was named for this one: ' || w.remote_url
                ELSE w.message END,
            failure_kind = w.kind, detail = w.detail,
            remote_ids = CASE WHEN w.taken OR w.remote_id IS NULL THEN d.remote_ids
                ELSE d.remote_ids || w.remote_id END,
            remote_urls = CASE WHEN w.taken OR w.remote_id IS NULL THEN d.remote_urls
                ELSE d.remote_urls || w.remote_url END,
            processing_handle = w.handle, lookups = w.lookups,
            needs_person = w.person OR (w.taken AND w.cause <> 'find'),
            consecutive_attempts = CASE WHEN w.taken OR w.remote_id IS NULL
                THEN coalesce(w.consecutive_attempts, d.consecutive_attempts) ELSE 0 END,
            call_end_time = CASE WHEN w.taken THEN coalesce(d.call_end_time, :now)
                WHEN w.proven OR w.holds <> '' THEN NULL ELSE coalesce(w.call_end, d.call_end_time) END,
            quiet_end_time = CASE WHEN w.taken THEN coalesce(d.quiet_end_time, :now)
                WHEN w.proven OR w.holds <> '' THEN NULL ELSE coalesce(w.quiet_end, d.quiet_end_time) END,
            empty_lookups = CASE WHEN w.proven OR w.remote_id IS NOT NULL THEN 0
                ELSE coalesce(w.empty_lookups, d.empty_lookups) END
        FROM judged AS w
        WHERE d.id = w.id
        RETURNING d.id, d.channel_id, d.attempt_number, d.remote_ids, d.state, w.cause, w.detail,
            d.network_message AS message, w.trace_id, w.taken, d.next_action_time, d.needs_person, d.call_end_time,
            d.quiet_end_time
    ), ended AS (
        UPDATE attempt AS a SET end_time = :now, outcome = moved.state, network_message = moved.message
        FROM moved WHERE a.delivery_id = moved.id AND a.number = moved.attempt_number AND moved.state <> 'publishing'
    ), noted AS (
        INSERT INTO delivery_change (delivery_id, time, state, cause, attempt_number, network_message, trace_id, detail,
            segments_out)
        SELECT id, :now, state, cause, attempt_number, message, trace_id, detail, cardinality(remote_ids) FROM moved
    )
    SELECT id, taken, next_action_time, message, needs_person, call_end_time, quiet_end_time,
        EXISTS (SELECT FROM channel WHERE id = moved.channel_id AND {HAS_RESTRICTIONS}) AS has_restrictions
    FROM moved
    """
)
