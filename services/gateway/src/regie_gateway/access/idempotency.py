"""Idempotency keys: a POST that is sent again gets the first answer again, and has no second effect.

A key is claimed before the work under a lease and keeps the answer afterwards. The request id that goes to the
services behind is derived from the key, so that a crash, a takeover or an answer lost on the way cannot do the work
twice either.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from regie_chassis.boundary.errors import Conflict, Invalid, Unprocessable
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

KEEP = timedelta(hours=24)
LEASE = timedelta(seconds=60)  # longer than the longest deadline of a call to a service
MAX_KEY_LENGTH = 255


class InvalidIdempotencyKey(Invalid):
    """The Idempotency-Key header is empty, too long or holds something else than visible ASCII."""


class IdempotencyKeyReused(Unprocessable):
    """The key was sent before with another request."""


class IdempotencyInFlight(Conflict):
    """The first request with this key is still at work."""

    def __init__(self, wait: timedelta) -> None:
        super().__init__(
            f"the first request with this key is still at work, or was cut off; the key is free again within"
            f" {wait.total_seconds():.0f} seconds at the latest"
        )
        self.retry_after = 1
        """Seconds: most requests end long before their lease does."""


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to do the work of a key; `token` fences out an earlier holder."""

    workspace_id: UUID
    key: str
    token: UUID


@dataclass(frozen=True, slots=True)
class Answer:
    """A stored answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def check_key(key: str) -> str:
    """Returns the key. Raises InvalidIdempotencyKey."""
    if not 1 <= len(key) <= MAX_KEY_LENGTH or not all("!" <= letter <= "~" for letter in key):
        raise InvalidIdempotencyKey(
            f"Idempotency-Key takes 1 to {MAX_KEY_LENGTH} visible ASCII characters; a UUID does well",
            field="Idempotency-Key",
        )
    return key


def fingerprint(secret: bytes, *parts: bytes) -> bytes:
    """Returns a digest of the request's parts. Keyed, since a body may hold a password that is easily guessed."""
    digest = hmac.new(secret, digestmod=hashlib.sha256)
    for part in parts:
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.digest()


def request_id(workspace_id: UUID, key: str, mark: bytes) -> UUID:
    """Returns the id under which the services behind know the request; the same for every try of it."""
    digest = hashlib.sha256(workspace_id.bytes + mark + key.encode()).digest()
    return UUID(bytes=digest[:16], version=5)


async def claim(
    session: AsyncSession, *, workspace_id: UUID, key: str, mark: bytes, token: UUID, now: datetime
) -> Claim | Answer:
    """Claims a key, or returns its stored answer.

    A claim with an expired lease is taken over, by the same request only. Raises IdempotencyKeyReused or
    IdempotencyInFlight.
    """
    values = {"workspace_id": workspace_id, "key": key, "fingerprint": mark, "token": token, "now": now}
    times = {"lease_time": now + LEASE, "expire_time": now - KEEP}
    claimed = (await session.execute(_CLAIM, values | times)).one_or_none()
    if claimed is not None:
        return Claim(workspace_id, key, token)
    rows = await session.execute(_SELECT_ANSWER, {"workspace_id": workspace_id, "key": key})
    return _known_answer(rows.one_or_none(), mark, now)


def _known_answer(row: Any, mark: bytes, now: datetime) -> Answer:
    if row is not None and not hmac.compare_digest(bytes(row.fingerprint), mark):
        raise IdempotencyKeyReused(
            "this key was sent before with another request; use a new key for a new request", field="Idempotency-Key"
        )
    if row is None or row.state != "done":
        raise IdempotencyInFlight(max(row.lease_time - now, timedelta(seconds=1)) if row is not None else LEASE)
    return Answer(row.status, row.headers, bytes(row.body))


async def keep_answer(session: AsyncSession, claimed: Claim, answer: Answer) -> None:
    """Stores the answer, unless the claim was taken over by then."""
    await session.execute(
        _KEEP_ANSWER,
        {
            "status": answer.status,
            "headers": json.dumps(dict(answer.headers)),
            "body": answer.body,
            **_held(claimed),
        },
    )


async def release(session: AsyncSession, claimed: Claim) -> None:
    """Lets the same request try again at once. The key stays bound to it, as its effect may have happened."""
    await session.execute(_RELEASE, _held(claimed))


async def forget(session: AsyncSession, claimed: Claim) -> None:
    """Frees the key of a request that certainly had no effect."""
    await session.execute(_FORGET, _held(claimed))


async def purge(session: AsyncSession, *, now: datetime) -> None:
    """Forgets keys that are older than KEEP."""
    await session.execute(_PURGE, {"limit": now - KEEP})


def _held(claimed: Claim) -> dict[str, Any]:
    return {"workspace_id": claimed.workspace_id, "key": claimed.key, "token": claimed.token}


HELD = "workspace_id = :workspace_id AND key = :key AND token = :token AND state = 'in_flight'"

_CLAIM = text(
    """
    INSERT INTO idempotency_key AS stored
        (workspace_id, key, fingerprint, token, state, lease_time, create_time)
    VALUES (:workspace_id, :key, :fingerprint, :token, 'in_flight', :lease_time, :now)
    ON CONFLICT (workspace_id, key) DO UPDATE SET
        fingerprint = excluded.fingerprint, token = excluded.token, state = 'in_flight',
        lease_time = excluded.lease_time, status = NULL, headers = NULL, body = NULL,
        create_time = CASE WHEN stored.create_time < :expire_time THEN excluded.create_time ELSE stored.create_time END
    WHERE stored.create_time < :expire_time
        OR (stored.fingerprint = excluded.fingerprint
            AND (stored.state = 'released' OR (stored.state = 'in_flight' AND stored.lease_time < :now)))
    RETURNING token
    """
)

_SELECT_ANSWER = text(
    """
    SELECT fingerprint, state, status, headers, body, lease_time FROM idempotency_key
    WHERE workspace_id = :workspace_id AND key = :key
    """
)

_KEEP_ANSWER = text(
    f"""
    UPDATE idempotency_key SET state = 'done', status = :status, headers = CAST(:headers AS jsonb), body = :body
    WHERE {HELD}
    """
)

_RELEASE = text(f"UPDATE idempotency_key SET state = 'released' WHERE {HELD}")

_FORGET = text(f"DELETE FROM idempotency_key WHERE {HELD}")

_PURGE = text("DELETE FROM idempotency_key WHERE create_time < :limit")
