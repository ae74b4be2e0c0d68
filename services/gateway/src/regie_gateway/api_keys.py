"""API keys: `regie_<key>_<secret>`, stored as a hash, shown once, limited to scopes and revocable."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from regie.gateway.events.v1.gateway_events_pb2 import ApiKeyCreated, ApiKeyRevoked
from regie_chassis import outbox
from regie_chassis.errors import NotFound, PermissionDenied, RegieError
from regie_chassis.ids import API_KEY, parse_id, show_id
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

SCOPES = (
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
)
MARK = "regie"
SECRET_BYTES = 32
LONGEST_TOKEN = 200


class ApiKeyNotFound(NotFound):
    """No such key in the workspace."""


class ScopeNotHeld(PermissionDenied):
    """A key was asked to hand out more than it may do itself."""


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as it is stored; the secret itself is known to its holder alone."""

    id: UUID
    workspace_id: UUID
    name: str
    secret_hash: bytes
    scopes: frozenset[str]
    create_time: datetime
    revoke_time: datetime | None
    last_used_time: datetime | None


def new_secret() -> str:
    """Returns 256 random bits in hexadecimal."""
    return secrets.token_hex(SECRET_BYTES)


def hash_secret(secret: str) -> bytes:
    """Returns what is stored. The secret is random and long, so that a slow hash would add nothing."""
    return hashlib.sha256(secret.encode()).digest()


def show_token(key_id: UUID, secret: str) -> str:
    """Returns the whole key as its holder sends it."""
    return f"{MARK}_{show_id(API_KEY, key_id).removeprefix(API_KEY + '_')}_{secret}"


def read_token(token: str) -> tuple[UUID, str] | None:
    """Returns the key's id and secret; None for what cannot be a key."""
    parts = token.split("_")
    if len(token) > LONGEST_TOKEN or len(parts) != 3 or parts[0] != MARK:
        return None
    try:
        return parse_id(API_KEY, f"{API_KEY}_{parts[1]}"), parts[2]
    except RegieError:
        return None


async def create_api_key(
    session: AsyncSession,
    *,
    key_id: UUID,
    request_id: UUID,
    workspace_id: UUID,
    name: str,
    scopes: Collection[str],
    held: Collection[str],
    secret: str,
    now: datetime,
) -> tuple[ApiKey, bool]:
    """Makes a key and says so; False comes with the key that the same request has made before.

    Raises ScopeNotHeld when a scope is not among those `held` by the one who asks.
    """
    missing = sorted(set(scopes) - set(held))
    if missing:
        raise ScopeNotHeld(f"this key does not hold {', '.join(missing)}; ask for less", field="scopes")
    values: dict[str, Any] = {
        "id": key_id,
        "workspace_id": workspace_id,
        "request_id": request_id,
        "name": name,
        "secret_hash": hash_secret(secret),
        "scopes": sorted(set(scopes)),
        "now": now,
    }
    row = (await session.execute(text(INSERT), values)).one_or_none()
    if row is None:
        rows = await session.execute(
            text(f"SELECT {COLUMNS} FROM api_key WHERE workspace_id = :workspace_id AND request_id = :request_id"),
            {"workspace_id": workspace_id, "request_id": request_id},
        )
        return _api_key(rows.one()), False
    shown = show_id(API_KEY, key_id)
    said = ApiKeyCreated(api_key_id=shown, scopes=values["scopes"])
    outbox.stage(session, said, workspace_id=workspace_id, aggregate_id=shown, time=now)
    return _api_key(row), True


async def revoke_api_key(session: AsyncSession, *, workspace_id: UUID, key_id: UUID, now: datetime) -> None:
    """Ends a key for good and says so; repeatable. Raises ApiKeyNotFound."""
    rows = await session.execute(
        text(
            "UPDATE api_key SET revoke_time = :now"
            " WHERE id = :id AND workspace_id = :workspace_id AND revoke_time IS NULL RETURNING id"
        ),
        {"id": key_id, "workspace_id": workspace_id, "now": now},
    )
    if rows.one_or_none() is None:
        key = await find_api_key(session, key_id=key_id)
        if key is None or key.workspace_id != workspace_id:
            raise ApiKeyNotFound("there is no such key in this workspace", field="api_key_id")
        return
    shown = show_id(API_KEY, key_id)
    outbox.stage(session, ApiKeyRevoked(api_key_id=shown), workspace_id=workspace_id, aggregate_id=shown, time=now)


async def find_api_key(session: AsyncSession, *, key_id: UUID) -> ApiKey | None:
    """Returns a key of any workspace; only authentication may ask so."""
    rows = await session.execute(text(f"SELECT {COLUMNS} FROM api_key WHERE id = :id"), {"id": key_id})
    row = rows.one_or_none()
    return _api_key(row) if row else None


async def list_api_keys(
    session: AsyncSession, *, workspace_id: UUID, before: UUID | None, limit: int
) -> Sequence[ApiKey]:
    """Returns the workspace's keys, the newest first, from before the id `before` on."""
    rows = await session.execute(
        text(
            f"SELECT {COLUMNS} FROM api_key WHERE workspace_id = :workspace_id"
            " AND (CAST(:before AS uuid) IS NULL OR id < CAST(:before AS uuid)) ORDER BY id DESC LIMIT :limit"
        ),
        {"workspace_id": workspace_id, "before": before, "limit": limit},
    )
    return [_api_key(row) for row in rows]


async def note_use(session: AsyncSession, *, key_ids: Collection[UUID], now: datetime) -> None:
    """Notes that keys were in use."""
    await session.execute(
        text("UPDATE api_key SET last_used_time = :now WHERE id = ANY(CAST(:ids AS uuid[]))"),
        {"ids": list(key_ids), "now": now},
    )


COLUMNS = "id, workspace_id, name, secret_hash, scopes, create_time, revoke_time, last_used_time"
INSERT = f"""
    INSERT INTO api_key (id, workspace_id, request_id, name, secret_hash, scopes, create_time)
    VALUES (:id, :workspace_id, :request_id, :name, :secret_hash, CAST(:scopes AS text[]), :now)
    ON CONFLICT ON CONSTRAINT api_key_once DO NOTHING RETURNING {COLUMNS}
"""


def _api_key(row: Any) -> ApiKey:
    return ApiKey(
        row.id,
        row.workspace_id,
        row.name,
        bytes(row.secret_hash),
        frozenset(row.scopes),
        row.create_time,
        row.revoke_time,
        row.last_used_time,
    )
