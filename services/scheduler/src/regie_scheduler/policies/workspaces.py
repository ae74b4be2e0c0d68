"""Decisions of a workspace, from the gateway's events. An unknown workspace has the defaults."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from regie.gateway.events.v1.gateway_events_pb2 import WorkspaceUpdated
from regie_chassis.data.bulk import Columns
from regie_chassis.events.messaging import Event
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

MISSED_AFTER = timedelta(minutes=10)
MAX_MISSED_AFTER = timedelta(days=7)


async def on_workspace_updated(session: AsyncSession, events: Sequence[Event[WorkspaceUpdated]]) -> None:
    """Keeps the newest policy of each workspace, whatever order the events come in."""
    newest = {event.workspace_id: event for event in sorted(events, key=lambda event: event.time)}
    rows = [(workspace_id, missed_after(event.message), event.time) for workspace_id, event in newest.items()]
    await session.execute(_KEEP_NEWEST, _POLICIES.parameters(rows))


def missed_after(message: WorkspaceUpdated) -> timedelta:
    """Returns how late a post may leave; the default where the workspace's decision is no positive span."""
    decided = timedelta(seconds=message.missed_after.seconds, microseconds=message.missed_after.nanos // 1000)
    return min(decided, MAX_MISSED_AFTER) if decided > timedelta(0) else MISSED_AFTER


_POLICIES = Columns(workspace_id="uuid", missed_after="interval", update_time="timestamptz")

_KEEP_NEWEST = text(
    f"""
    INSERT INTO workspace_policy ({_POLICIES.names}) SELECT {_POLICIES.names} FROM {_POLICIES.unnest}
    ON CONFLICT (workspace_id) DO UPDATE
    SET missed_after = excluded.missed_after, update_time = excluded.update_time
    WHERE workspace_policy.update_time < excluded.update_time
    """
)
