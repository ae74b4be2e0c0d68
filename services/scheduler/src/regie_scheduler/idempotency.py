"""Requests that were carried out: makes every mutation repeatable under the caller's request id."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

from regie_chassis.boundary.errors import Conflict, Invalid
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

BATCH = 5_000  # requests that a purge deletes in a transaction
MAX_REQUEST_ID = 200  # characters


class InvalidRequestId(Invalid):
    """A request id is too long or cannot be stored."""


class RequestIdReused(Conflict):
    """A request id has already stood for another call."""


async def claim(
    session: AsyncSession, *, workspace_id: UUID, request_id: str, method: str, post_id: UUID, now: datetime
) -> UUID | None:
    """Notes a request as carried out on a post, together with the session's work.

    Returns None for a new request, and for a repeated one the post that it was carried out on. An empty id is always
    new. A concurrent call with the same id waits until the first has committed. Raises RequestIdReused.
    """
    if not request_id:
        return None
    if len(request_id) > MAX_REQUEST_ID or "\x00" in request_id:
        raise InvalidRequestId(f"a request id has at most {MAX_REQUEST_ID} characters", field="request_id")
    key = {"workspace_id": workspace_id, "request_id": request_id}
    fresh = await session.execute(_INSERT, {**key, "method": method, "post_id": post_id, "now": now})
    if fresh.first() is not None:
        return None
    existing = (await session.execute(_SELECT, key)).one()
    if existing.method != method or (method != "CreatePost" and existing.post_id != post_id):
        raise RequestIdReused("this request id stood for another call; make a new one", field="request_id")
    return UUID(int=existing.post_id.int)


async def purge(session: AsyncSession, *, now: datetime, life: timedelta, batch: int = BATCH) -> bool:
    """Deletes up to `batch` requests that are older than `life`. Returns True when there may be more."""
    rows = await session.execute(_PURGE, {"limit": now - life, "batch": batch})
    return len(rows.all()) == batch


_INSERT = text(
    """
    INSERT INTO request (workspace_id, request_id, method, post_id, create_time)
    VALUES (:workspace_id, :request_id, :method, :post_id, :now)
    ON CONFLICT DO NOTHING RETURNING post_id
    """
)
_SELECT = text("SELECT method, post_id FROM request WHERE workspace_id = :workspace_id AND request_id = :request_id")
_PURGE = text(
    """
    DELETE FROM request WHERE (workspace_id, request_id) IN (
        SELECT workspace_id, request_id FROM request WHERE create_time < :limit
        ORDER BY create_time LIMIT :batch FOR UPDATE SKIP LOCKED
    )
    RETURNING 1
    """
)
