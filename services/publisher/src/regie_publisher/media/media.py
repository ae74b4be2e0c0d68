"""A stored picture or video, and its row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession


@dataclass(frozen=True, slots=True, kw_only=True)
class Media:
    """A stored picture or video; sizes in bytes and pixels."""

    id: UUID
    workspace_id: UUID
    sha256: bytes
    """Of the stored bytes; names the object, too."""
    content_type: str
    size: int
    width: int
    height: int
    frames: int = 1
    duration: timedelta = timedelta(0)
    """How long a video plays."""

    @property
    def path(self) -> str:
        """The path of the object in the media store."""
        return f"{self.workspace_id}/{self.sha256.hex()}"

    @property
    def is_video(self) -> bool:
        """True for a video."""
        return self.content_type.startswith("video/")


async def save_media(session: AsyncSession, media: Media, *, now: datetime) -> Media:
    """Saves a medium whose object is stored; returns the one of the workspace that has the same bytes, if any."""
    values = {
        "id": media.id,
        "workspace_id": media.workspace_id,
        "sha256": media.sha256,
        "content_type": media.content_type,
        "size": media.size,
        "width": media.width,
        "height": media.height,
        "frames": media.frames,
        "duration": media.duration,
        "now": now,
    }
    return _to_media((await session.execute(_INSERT, values)).one())


async def find_media(session: AsyncSession, *, workspace_id: UUID, ids: Sequence[UUID]) -> dict[UUID, Media]:
    """Returns those of the media that the workspace has stored."""
    rows = await session.execute(_FIND, {"workspace_id": workspace_id, "ids": list(ids)})
    return {row.id: _to_media(row) for row in rows}


def _to_media(row: Any) -> Media:
    return Media(
        id=row.id,
        workspace_id=row.workspace_id,
        sha256=row.sha256,
        content_type=row.content_type,
        size=row.size,
        width=row.width,
        height=row.height,
        frames=row.frames,
        duration=row.duration,
    )


_INSERT = text(
    """
    INSERT INTO media
        (id, workspace_id, sha256, content_type, size, width, height, frames, duration, create_time)
    VALUES (:id, :workspace_id, :sha256, :content_type, :size, :width, :height, :frames, :duration, :now)
    ON CONFLICT ON CONSTRAINT media_once DO UPDATE SET frames = excluded.frames
    RETURNING *
    """
)

_FIND = text("SELECT * FROM media WHERE workspace_id = :workspace_id AND id = ANY(CAST(:ids AS uuid[]))")
