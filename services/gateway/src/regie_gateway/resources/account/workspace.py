"""The caller's workspace."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import ConfigDict, Field
from pydantic.json_schema import SkipJsonSchema
from regie.ids.v1.prefixes import WORKSPACE
from regie_chassis.boundary.ids import show_id

from regie_gateway import workspaces
from regie_gateway.http.context import RequestContext
from regie_gateway.http.fields import WHOLE, Body, NotNull, View, without_default
from regie_gateway.http.operations import Operations
from regie_gateway.mapping.overrides import From
from regie_gateway.workspaces import MAX_MISSED_AFTER, Workspace

operations = Operations("workspace", "The tenant that a key belongs to.")


class UpdateWorkspace(Body):
    """The values to change; absent ones stay."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"missed_after_seconds": 900}]})

    name: Annotated[Annotated[str, Field(min_length=1, max_length=200)] | SkipJsonSchema[None], NotNull] = Field(
        default=None, json_schema_extra=without_default
    )
    missed_after_seconds: Annotated[
        Annotated[int, Field(ge=1, le=int(MAX_MISSED_AFTER.total_seconds())), WHOLE] | SkipJsonSchema[None], NotNull
    ] = Field(
        default=None, description="A post later than this is missed, not sent.", json_schema_extra=without_default
    )


def _workspace_id(workspace: Workspace) -> str:
    return show_id(WORKSPACE, workspace.id)


class WorkspaceView(View):
    """A workspace."""

    workspace_id: Annotated[str, From(_workspace_id)]
    name: str
    missed_after_seconds: int
    create_time: datetime
    update_time: datetime


@operations.add(
    "GET",
    "/v1/workspace",
    scope=None,
    summary="Get the key's workspace",
    description="Any key may read its own workspace.",
    answer=WorkspaceView,
)
async def get_workspace(context: RequestContext) -> Workspace:
    async with context.gateway.database.reading() as session:
        return await workspaces.get_workspace(session, workspace_id=context.workspace_id)


@operations.add(
    "PATCH",
    "/v1/workspace",
    scope="workspace:manage",
    summary="Change the workspace",
    description="Replaces the given values. Names are for people and need not be unique.",
    answer=WorkspaceView,
    body="json",
)
async def update_workspace(context: RequestContext, body: UpdateWorkspace) -> Workspace:
    async with context.gateway.database.transaction() as session:
        return await workspaces.update_workspace(
            session,
            workspace_id=context.workspace_id,
            name=body.name,
            missed_after_seconds=body.missed_after_seconds,
            now=context.gateway.clock.now(),
        )
