"""The first workspace and its first key, without which nobody could call."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from regie_chassis.boundary.ids import new_id
from regie_chassis.data.database import Database
from regie_chassis.process.clock import Clock

from regie_gateway import workspaces
from regie_gateway.access import api_keys
from regie_gateway.access.api_keys import SCOPES


@dataclass(frozen=True, slots=True)
class Bootstrapped:
    """The workspace, whether it is new, and a key where one was made."""

    workspace_id: UUID
    created: bool
    api_key: str | None


async def bootstrap(database: Database, clock: Clock, *, name: str, new_key: bool) -> Bootstrapped:
    """Makes the workspace with a key for everything, unless it exists; then a key only when `new_key` asks for it."""
    now = clock.now()
    async with database.transaction() as session:
        workspace, created = await workspaces.create_workspace(session, workspace_id=new_id(), name=name, now=now)
        if not created and not new_key:
            return Bootstrapped(workspace.id, created, None)
        secret = api_keys.new_secret()
        key, _ = await api_keys.create_api_key(
            session,
            key_id=new_id(),
            request_id=new_id(),
            workspace_id=workspace.id,
            name="bootstrap",
            scopes=SCOPES,
            held=SCOPES,
            secret=secret,
            now=now,
        )
    return Bootstrapped(workspace.id, created, api_keys.show_token(key.id, secret))
