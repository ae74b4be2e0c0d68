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
from regie.ids.v1.prefixes import API_KEY
from regie_chassis.boundary.errors import Conflict, NotFound, PermissionDenied, RegieError, Unprocessable
from regie_chassis.boundary.ids import parse_id, show_id
from regie_chassis.events.outbox import stage
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
MAX_TOKEN_LENGTH = 200
MAX_KEYS = 200  # valid ones of a workspace


class ApiKeyNotFound(NotFound):
    """No such key in the workspace."""


class ScopeNotHeld(PermissionDenied):
    """A new key would get a scope that the calling key lacks."""


class TooManyApiKeys(Conflict):
    """The workspace has as many valid keys as it may."""


class InvalidExpireTime(Unprocessable):
    """A key was to end in the past, or later than the key that makes it."""


class LastManagingKey(Conflict):
    """Without this key nobody could make or revoke another one."""


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as it is stored; only its holder has the secret."""

    id: UUID
    workspace_id: UUID
    name: str
    secret_hash: bytes
    scopes: frozenset[str]
    create_time: datetime
    revoke_time: datetime | None
    last_used_time: datetime | None
    expire_time: datetime | None
    parent_id: UUID | None
    """The key that created it; None for a key from the command line."""

    def valid_at(self, now: datetime) -> bool:
        """True until it is revoked or expires."""
        return self.revoke_time is None and (self.expire_time is None or now < self.expire_time)


def new_secret() -> str:
    """Returns 256 random bits in hexadecimal."""
    return secrets.token_hex(SECRET_BYTES)


def hash_secret(secret: str) -> bytes:
    """Returns the stored hash. The secret is random and long, so that a slow hash would add nothing."""
    return hashlib.sha256(secret.encode()).digest()


def show_token(key_id: UUID, secret: str) -> str:
    """Returns the whole key as its holder sends it."""
    return f"{MARK}_{show_id(API_KEY, key_id).removeprefix(API_KEY + '_')}_{secret}"


def read_token(token: str) -> tuple[UUID, str] | None:
    """Returns the key's id and secret; None for anything else."""
    parts = token.split("_")
    if len(token) > MAX_TOKEN_LENGTH or len(parts) != 3 or parts[0] != MARK:
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
    expire_time: datetime | None = None,
    parent: ApiKey | None = None,
) -> tuple[ApiKey, bool]:
    """Creates a key and stages its event; False comes with the key that the same request created before.

    A key expires no later than its `parent`. Raises ScopeNotHeld when a scope is not among the caller's `held`
    scopes, InvalidExpireTime, or TooManyApiKeys.
    """
    missing = sorted(set(scopes) - set(held))
    if missing:
        raise ScopeNotHeld(f"this key does not hold {', '.join(missing)}; ask for less", field="scopes")
    expire_time = _checked_expire_time(expire_time, parent, now)
    values: dict[str, Any] = {
        "id": key_id,
        "workspace_id": workspace_id,
        "request_id": request_id,
        "name": name,
        "secret_hash": hash_secret(secret),
        "scopes": sorted(set(scopes)),
        "now": now,
        "expire_time": expire_time,
        "parent_id": parent.id if parent else None,
    }
    await _lock_workspace(session, workspace_id)
    row = (await session.execute(_INSERT_KEY, values)).one_or_none()
    if row is None:
        rows = await session.execute(_SELECT_OF_REQUEST, {"workspace_id": workspace_id, "request_id": request_id})
        return _api_key(rows.one()), False
    counted = await session.execute(_COUNT_VALID, {"workspace_id": workspace_id, "now": now})
    if counted.scalar_one() > MAX_KEYS:
        raise TooManyApiKeys(f"a workspace has at most {MAX_KEYS} valid keys; revoke some that are not used")
    event = ApiKeyCreated(api_key_id=show_id(API_KEY, key_id), scopes=values["scopes"])
    stage(session, event, workspace_id=workspace_id, time=now)
    return _api_key(row), True


async def revoke_api_key(
    session: AsyncSession, *, workspace_id: UUID, key_id: UUID, descendants: bool, now: datetime
) -> list[UUID]:
    """Revokes a key, with `descendants` also the keys that it created, and theirs; stages the events and returns the
    revoked keys. Repeatable. Raises ApiKeyNotFound or LastManagingKey.
    """
    await _lock_workspace(session, workspace_id)
    key = await find_api_key(session, key_id=key_id)
    if key is None or key.workspace_id != workspace_id:
        raise ApiKeyNotFound("there is no such key in this workspace", field="api_key_id")
    values = {"id": key_id, "workspace_id": workspace_id, "now": now}
    revoked = list((await session.execute(_REVOKE_TREE if descendants else _REVOKE, values)).scalars())
    managing = await session.execute(_COUNT_MANAGING, {"workspace_id": workspace_id, "now": now})
    if revoked and not managing.scalar_one():
        raise LastManagingKey(
            "nobody could manage keys without this one; make another key with keys:manage first", field="api_key_id"
        )
    for revoked_id in revoked:
        event = ApiKeyRevoked(api_key_id=show_id(API_KEY, revoked_id))
        stage(session, event, workspace_id=workspace_id, time=now)
    return revoked


async def find_api_key(session: AsyncSession, *, key_id: UUID) -> ApiKey | None:
    """Returns a key of any workspace; only authentication may ask so."""
    rows = await session.execute(_SELECT_KEY, {"id": key_id})
    row = rows.one_or_none()
    return _api_key(row) if row else None


async def list_api_keys(
    session: AsyncSession, *, workspace_id: UUID, before: UUID | None, limit: int
) -> Sequence[ApiKey]:
    """Returns the workspace's keys, the newest first, from before the id `before` on."""
    rows = await session.execute(_SELECT_PAGE, {"workspace_id": workspace_id, "before": before, "limit": limit})
    return [_api_key(row) for row in rows]


async def note_use(session: AsyncSession, *, key_ids: Collection[UUID], now: datetime) -> None:
    """Notes that keys were in use."""
    await session.execute(_NOTE_USE, {"ids": list(key_ids), "now": now})


async def _lock_workspace(session: AsyncSession, workspace_id: UUID) -> None:
    """Locks the keys of a workspace against other changes, so that their count stays true."""
    await session.execute(_LOCK_WORKSPACE, {"id": workspace_id})


def _checked_expire_time(expire_time: datetime | None, parent: ApiKey | None, now: datetime) -> datetime | None:
    latest = parent.expire_time if parent else None
    if expire_time is None:
        return latest
    if expire_time <= now:
        raise InvalidExpireTime("the key would have expired already; give a time to come", field="expire_time")
    if latest is not None and expire_time > latest:
        raise InvalidExpireTime(
            f"the key that makes it expires at {latest:%Y-%m-%dT%H:%M:%SZ}; give that time or an earlier one",
            field="expire_time",
        )
    return expire_time


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
        row.expire_time,
        row.parent_id,
    )


COLUMNS = (
    "id, workspace_id, name, secret_hash, scopes, create_time, revoke_time, last_used_time, expire_time, parent_id"
)
VALID = "workspace_id = :workspace_id AND revoke_time IS NULL AND (expire_time IS NULL OR expire_time > :now)"

_INSERT_KEY = text(
    f"""
    INSERT INTO api_key (id, workspace_id, request_id, name, secret_hash, scopes, create_time, expire_time, parent_id)
    VALUES (:id, :workspace_id, :request_id, :name, :secret_hash, CAST(:scopes AS text[]), :now, :expire_time,
            :parent_id)
    ON CONFLICT ON CONSTRAINT api_key_once DO NOTHING RETURNING {COLUMNS}
    """
)

_SELECT_OF_REQUEST = text(
    f"SELECT {COLUMNS} FROM api_key WHERE workspace_id = :workspace_id AND request_id = :request_id"
)

_COUNT_VALID = text(f"SELECT count(*) FROM api_key WHERE {VALID}")

_REVOKE = text(
    """
    UPDATE api_key SET revoke_time = :now
    WHERE id = :id AND workspace_id = :workspace_id AND revoke_time IS NULL RETURNING id
    """
)

_REVOKE_TREE = text(
    """
    WITH RECURSIVE tree AS (
        SELECT id FROM api_key WHERE id = :id AND workspace_id = :workspace_id
        UNION
        SELECT api_key.id FROM api_key JOIN tree ON api_key.parent_id = tree.id
        WHERE api_key.workspace_id = :workspace_id
    )
    UPDATE api_key SET revoke_time = :now
    WHERE id IN (SELECT id FROM tree) AND revoke_time IS NULL RETURNING id
    """
)

_COUNT_MANAGING = text(f"SELECT count(*) FROM api_key WHERE {VALID} AND 'keys:manage' = ANY (scopes)")

_SELECT_KEY = text(f"SELECT {COLUMNS} FROM api_key WHERE id = :id")

_SELECT_PAGE = text(
    f"""
    SELECT {COLUMNS} FROM api_key WHERE workspace_id = :workspace_id
        AND (CAST(:before AS uuid) IS NULL OR id < CAST(:before AS uuid))
    ORDER BY id DESC LIMIT :limit
    """
)

_NOTE_USE = text("UPDATE api_key SET last_used_time = :now WHERE id = ANY(CAST(:ids AS uuid[]))")

_LOCK_WORKSPACE = text("SELECT 1 FROM workspace WHERE id = :id FOR UPDATE")
