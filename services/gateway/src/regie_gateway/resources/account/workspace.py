"""The caller's workspace."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import Request, Response
from pydantic import ConfigDict, Field
from pydantic.json_schema import SkipJsonSchema
from regie_chassis.ids import WORKSPACE, show_id

from regie_gateway import workspaces
from regie_gateway.http.context import request_context
from regie_gateway.http.fields import WHOLE, Body, NotNull, View, without_default
from regie_gateway.http.operations import Operations
from regie_gateway.http.responses import json_response
from regie_gateway.workspaces import MAX_MISSED_AFTER, Workspace

operations = Operations("workspace")


class UpdateWorkspace(Body):
    """What is to change; what is absent stays."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"missed_after_seconds": 900}]})

    name: Annotated[Annotated[str, Field(min_length=1, max_length=200)] | SkipJsonSchema[None], NotNull] = Field(
        default=None, json_schema_extra=without_default
    )
    missed_after_seconds: Annotated[
        Annotated[int, Field(ge=1, le=int(MAX_MISSED_AFTER.total_seconds())), WHOLE] | SkipJsonSchema[None], NotNull
    ] = Field(
        default=None, description="A post later than this is missed, not sent.", json_schema_extra=without_default
    )


class WorkspaceView(View):
    """A workspace."""

    workspace_id: str
    name: str
    missed_after_seconds: int
    create_time: datetime
    update_time: datetime


@operations.add(
    "GET",
    "/v1/workspace",
    scope=None,
    summary="Get the key's workspace",
    description="Any key may ask whose it is.",
    answer=WorkspaceView,
)
async def get_workspace(request: Request) -> Response:
    context = request_context(request)
    async with context.gateway.database.reading() as session:
        found = await workspaces.get_workspace(session, workspace_id=context.workspace_id)
    return json_response(_show(found))


@operations.add(
    "PATCH",
    "/v1/workspace",
    scope="workspace:manage",
    summary="Change the workspace",
    description="Replaces what is given. Names tell a team its workspaces apart and need not be unique.",
    answer=WorkspaceView,
    body="json",
)
async def update_workspace(request: Request, body: UpdateWorkspace) -> Response:
    context = request_context(request)
    async with context.gateway.database.transaction() as session:
        changed = await workspaces.update_workspace(
            session,
            workspace_id=context.workspace_id,
            name=body.name,
            missed_after_seconds=body.missed_after_seconds,
            now=context.gateway.clock.now(),
        )
    return json_response(_show(changed))


def _show(workspace: Workspace) -> dict[str, Any]:
    return {
        "workspace_id": show_id(WORKSPACE, workspace.id),
        "name": workspace.name,
        "missed_after_seconds": workspace.missed_after_seconds,
        "create_time": workspace.create_time,
        "update_time": workspace.update_time,
    }
