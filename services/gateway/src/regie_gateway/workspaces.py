"""Workspaces: the tenants. Their policies reach the other services as events."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from google.protobuf.duration_pb2 import Duration
from regie.gateway.events.v1.gateway_events_pb2 import WorkspaceUpdated
from regie.ids.v1.prefixes import WORKSPACE
from regie_chassis.boundary.errors import NotFound
from regie_chassis.boundary.ids import show_id
from regie_chassis.events.outbox import stage
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

MISSED_AFTER = timedelta(minutes=10)
MAX_MISSED_AFTER = timedelta(days=7)


class WorkspaceNotFound(NotFound):
    """No such workspace."""


@dataclass(frozen=True, slots=True)
class Workspace:
    """A tenant; a post later than `missed_after_seconds` is missed, not sent."""

    id: UUID
    name: str
    missed_after_seconds: int
    create_time: datetime
    update_time: datetime


async def create_workspace(
    session: AsyncSession, *, workspace_id: UUID, name: str, now: datetime
) -> tuple[Workspace, bool]:
    """Creates a workspace and stages its event; False comes with the workspace that was created under this name before.

    The name of its creation is the operator's and stays; tenants can rename their workspace.
    """
    rows = await session.execute(
        _INSERT,
        {"id": workspace_id, "name": name, "missed_after_seconds": int(MISSED_AFTER.total_seconds()), "now": now},
    )
    row = rows.one_or_none()
    if row is not None:
        return _stage_update(session, _workspace(row), now), True
    rows = await session.execute(_SELECT_BOOTSTRAPPED, {"name": name})
    return _workspace(rows.one()), False


async def get_workspace(session: AsyncSession, *, workspace_id: UUID) -> Workspace:
    """Returns a workspace. Raises WorkspaceNotFound."""
    rows = await session.execute(_SELECT_WORKSPACE, {"id": workspace_id})
    row = rows.one_or_none()
    if row is None:
        raise WorkspaceNotFound("this workspace does not exist any more")
    return _workspace(row)


async def update_workspace(
    session: AsyncSession, *, workspace_id: UUID, name: str | None, missed_after_seconds: int | None, now: datetime
) -> Workspace:
    """Changes the given values and stages an event, unless nothing differs. Raises WorkspaceNotFound."""
    rows = await session.execute(
        _UPDATE, {"id": workspace_id, "name": name, "missed_after_seconds": missed_after_seconds, "now": now}
    )
    row = rows.one_or_none()
    if row is None:
        return await get_workspace(session, workspace_id=workspace_id)
    return _stage_update(session, _workspace(row), now)


def _workspace(row: Any) -> Workspace:
    return Workspace(row.id, row.name, row.missed_after_seconds, row.create_time, row.update_time)


def _stage_update(session: AsyncSession, workspace: Workspace, now: datetime) -> Workspace:
    event = WorkspaceUpdated(
        workspace_id=show_id(WORKSPACE, workspace.id),
        name=workspace.name,
        missed_after=Duration(seconds=workspace.missed_after_seconds),
    )
    stage(session, event, workspace_id=workspace.id, time=now)
    return workspace


COLUMNS = "id, name, missed_after_seconds, create_time, update_time"

_INSERT = text(
    f"""
    INSERT INTO workspace (id, name, bootstrap_name, missed_after_seconds, create_time, update_time)
    VALUES (:id, :name, :name, :missed_after_seconds, :now, :now)
    ON CONFLICT (bootstrap_name) DO NOTHING RETURNING {COLUMNS}
    """
)

_SELECT_BOOTSTRAPPED = text(f"SELECT {COLUMNS} FROM workspace WHERE bootstrap_name = :name")

_SELECT_WORKSPACE = text(f"SELECT {COLUMNS} FROM workspace WHERE id = :id")

_UPDATE = text(
    f"""
    UPDATE workspace SET name = coalesce(CAST(:name AS text), name),
        missed_after_seconds = coalesce(CAST(:missed_after_seconds AS integer), missed_after_seconds),
        update_time = :now
    WHERE id = :id
        AND (name <> CAST(:name AS text) OR missed_after_seconds <> CAST(:missed_after_seconds AS integer))
    RETURNING {COLUMNS}
    """
)
