"""The workspace's API keys."""

from __future__ import annotations

import base64
import binascii
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import Query, Response
from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import SkipJsonSchema
from regie.ids.v1.prefixes import API_KEY
from regie_chassis.boundary.errors import Invalid
from regie_chassis.boundary.ids import new_id, parse_id, show_id

from regie_gateway.access import api_keys
from regie_gateway.access.api_keys import ApiKey
from regie_gateway.http.context import RequestContext
from regie_gateway.http.fields import ApiKeyId, Body, Instant, NotNull, Page, View, without_default
from regie_gateway.http.operations import Operations
from regie_gateway.http.responses import SecretResponse
from regie_gateway.mapping.compiled import compile_view
from regie_gateway.mapping.overrides import From

operations = Operations("api keys", "What opens all of this.")

Scope = Literal[
    "posts:read",
    "posts:write",
    "channels:read",
    "channels:write",
    "media:write",
    "metrics:read",
    "profiles:read",
    "profiles:write",
    "segments:read",
    "segments:write",
    "events:read",
    "keys:manage",
    "workspace:manage",
]


class InvalidPageToken(Invalid):
    """The page token did not come from this list."""


class CreateApiKey(Body):
    """A key to make; it can do at most what the calling key can."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "newsroom", "scopes": ["posts:read"]}]})

    name: str = Field(min_length=1, max_length=200)
    scopes: list[Scope] = Field(min_length=1, max_length=50)
    expire_time: Annotated[Instant | SkipJsonSchema[None], NotNull] = Field(
        default=None,
        description="When the key ends by itself, not later than the calling key does; with that one when absent.",
        json_schema_extra=without_default,
    )


def _key_id(key: ApiKey) -> str:
    return show_id(API_KEY, key.id)


def _scopes(key: ApiKey) -> list[str]:
    return sorted(key.scopes)


def _parent_id(key: ApiKey) -> str | None:
    return show_id(API_KEY, key.parent_id) if key.parent_id else None


class ApiKeyView(View):
    """A key without its secret."""

    api_key_id: Annotated[str, From(_key_id)]
    name: str
    scopes: Annotated[list[Scope], From(_scopes)]
    create_time: datetime
    revoke_time: datetime | None
    expire_time: datetime | None
    last_used_time: datetime | None = Field(description="To the minute.")
    parent_api_key_id: Annotated[str | None, From(_parent_id)] = Field(
        description="The key that made it; null for one made on the server."
    )


class NewApiKeyView(ApiKeyView):
    """A new key. A replayed answer has null where the secret was: it is shown once and not stored."""

    api_key: str | None = Field(description="Shown this once.")


class ApiKeyPage(View):
    """A page of keys, revoked ones included."""

    api_keys: list[ApiKeyView]
    next_page_token: str


_to_view = compile_view(ApiKey, ApiKeyView)


@operations.add(
    "POST",
    "/v1/api-keys",
    scope="keys:manage",
    summary="Make an API key",
    description="It can do at most what the calling key can. Its secret is in this answer alone. 200 may be valid.",
    answer=NewApiKeyView,
    status=201,
    body="json",
)
async def create_api_key(context: RequestContext, body: CreateApiKey) -> Response:
    secret = api_keys.new_secret()
    async with context.gateway.database.transaction() as session:
        key, new = await api_keys.create_api_key(
            session,
            key_id=new_id(),
            request_id=UUID(context.request_id),
            workspace_id=context.workspace_id,
            name=body.name,
            scopes=body.scopes,
            held=context.key.scopes,
            secret=secret,
            now=context.gateway.clock.now(),
            expire_time=body.expire_time,
            parent=context.key,
        )
    stored = {**_to_view(key), "api_key": None}
    view = {**stored, "api_key": api_keys.show_token(key.id, secret)} if new else stored
    return SecretResponse(view, stored, status=201, location=f"/v1/api-keys/{stored['api_key_id']}")


@operations.add(
    "GET",
    "/v1/api-keys",
    scope="keys:manage",
    summary="List API keys",
    description="The newest first, revoked and expired ones included.",
    answer=ApiKeyPage,
)
async def list_api_keys(context: RequestContext, page: Page) -> dict[str, Any]:
    async with context.gateway.database.reading() as session:
        rows = await api_keys.list_api_keys(
            session, workspace_id=context.workspace_id, before=_read_token(page.page_token), limit=page.page_size + 1
        )
    keys, more = rows[: page.page_size], len(rows) > page.page_size
    token = _page_token(keys[-1].id) if more else ""
    return {"api_keys": [_to_view(key) for key in keys], "next_page_token": token}


class RevokeQuery(BaseModel):
    """The keys that end with this one."""

    model_config = ConfigDict(extra="forbid")

    descendants: bool = Field(default=False, description="Also the keys that it made, and those that they made.")


@operations.add(
    "DELETE",
    "/v1/api-keys/{api_key_id}",
    scope="keys:manage",
    summary="Revoke an API key",
    description=(
        "For good; repeatable. Keys that it made stay, so that a key can be replaced by one of its own making; "
        "`descendants=true` ends them, too, as after a leak. The last key with keys:manage cannot be revoked: 409."
    ),
    status=204,
    problems=(409,),
)
async def revoke_api_key(
    context: RequestContext, api_key_id: ApiKeyId, query: Annotated[RevokeQuery, Query()]
) -> Response:
    async with context.gateway.database.transaction() as session:
        revoked = await api_keys.revoke_api_key(
            session,
            workspace_id=context.workspace_id,
            key_id=parse_id(API_KEY, api_key_id),
            descendants=query.descendants,
            now=context.gateway.clock.now(),
        )
    for key_id in revoked:
        context.gateway.authenticator.forget(key_id)
    return Response(status_code=204)


def _page_token(key_id: UUID) -> str:
    return base64.urlsafe_b64encode(key_id.bytes).decode().rstrip("=")


def _read_token(token: str) -> UUID | None:
    if not token:
        return None
    try:
        return UUID(bytes=base64.b64decode(token + "==", altchars=b"-_", validate=True))
    except (binascii.Error, ValueError) as error:
        raise InvalidPageToken(
            "this page token did not come from here; begin with the first page", field="page_token"
        ) from error
