"""Stores pictures: normalised at upload, stored once, and read or reduced for networks.

The bytes are in an object store (a folder, or S3, GCS or Azure by URL) under their own hash, type and size in a table.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

import obstore
import structlog
from obstore.store import ObjectStore
from regie_chassis.boundary.errors import TooLarge, TooManyRequests, Unavailable, Unprocessable
from regie_chassis.boundary.ids import new_id
from regie_chassis.data.database import Database
from regie_networks.draft import Picture
from regie_networks.errors import FailureKind, NotSent, Refused
from regie_networks.rendition import Bounds, Rendition
from sqlalchemy import text

from regie_publisher.media.images import refusals
from regie_publisher.media.images.picture import Normalised
from regie_publisher.media.images.pool import PicturePool, PoolBusy

STORE_TIMEOUT = 20.0  # seconds

log = structlog.get_logger()


class InvalidMedia(Unprocessable):
    """The bytes are not a whole picture of a supported type."""


class MediaTooLarge(TooLarge):
    """The picture has too many bytes or pixels."""


class MediaTooCostly(Unprocessable):
    """Reading the picture takes more time or memory than is allowed for one picture."""


class MediaQueueFull(TooManyRequests):
    """Too many pictures of the workspace are waiting to be read, or the machine is too busy."""


class MediaStoreUnavailable(Unavailable):
    """The object store does not answer."""


@dataclass(frozen=True, slots=True)
class Media:
    """A stored picture; sizes in bytes and pixels."""

    id: UUID
    workspace_id: UUID
    sha256: bytes
    content_type: str
    size: int
    width: int
    height: int
    frames: int


class MediaStore:
    """Stores and reads the pictures of all workspaces. One for each process."""

    def __init__(self, database: Database, store: ObjectStore, pool: PicturePool) -> None:
        self._database = database
        self._store = store
        self._pool = pool

    async def upload(self, data: bytes, *, workspace_id: UUID, now: datetime) -> Media:
        """Stores a picture. The same bytes return the same medium.

        Raises InvalidMedia, MediaTooLarge, MediaTooCostly, MediaQueueFull or MediaStoreUnavailable.
        """
        normalised = await self._normalise(data, workspace_id)
        digest = hashlib.sha256(normalised.data).digest()
        await self._store_bytes(_path(workspace_id, digest), normalised.data)
        async with self._database.transaction() as session:
            rows = await session.execute(
                _INSERT,
                {
                    "id": new_id(),
                    "workspace_id": workspace_id,
                    "sha256": digest,
                    **_columns(normalised),
                    "now": now,
                },
            )
            return _to_media(rows.one())

    async def find(self, workspace_id: UUID, ids: Sequence[UUID]) -> dict[UUID, Media]:
        """Returns those of the media that the workspace has stored."""
        async with self._database.reading() as session:
            rows = await session.execute(_FIND, {"workspace_id": workspace_id, "ids": list(ids)})
            return {row.id: _to_media(row) for row in rows}

    def picture(self, media: Media, media_id: str, alt_text: str) -> Picture:
        """Returns a medium as connectors see it; its bytes are read on demand."""
        return Picture(
            media_id,
            alt_text,
            media.content_type,
            media.size,
            media.width,
            media.height,
            partial(self._read, media),
            media.frames,
            partial(self._fit, media),
        )

    async def _normalise(self, data: bytes, workspace_id: UUID) -> Normalised:
        try:
            return await self._pool.normalise(data, workspace_id=workspace_id)
        except refusals.TooLarge as error:
            raise MediaTooLarge(error.message, field="data") from error
        except refusals.TooCostly as error:
            raise MediaTooCostly(error.message, field="data") from error
        except refusals.PictureRefused as error:
            raise InvalidMedia(error.message, field="data") from error
        except PoolBusy as error:
            raise MediaQueueFull(str(error)) from error

    async def _fit(self, media: Media, bounds: Bounds) -> Rendition:
        data = await self._read(media)
        try:
            return await self._pool.fit(data, bounds, workspace_id=media.workspace_id)
        except refusals.PictureRefused as error:
            raise Refused(FailureKind.MEDIA_REJECTED, f"The picture cannot be made smaller: {error.message}") from error
        except PoolBusy as error:
            raise NotSent(f"The picture could not be made smaller yet: {error}") from error

    async def _store_bytes(self, path: str, data: bytes) -> None:
        try:
            async with asyncio.timeout(STORE_TIMEOUT):
                await obstore.put_async(self._store, path, data)
        except (OSError, TimeoutError, obstore.exceptions.BaseError) as error:
            log.error("media.not_stored", error=type(error).__name__)
            raise MediaStoreUnavailable("the picture cannot be stored now; try again in a moment") from error

    async def _read(self, media: Media) -> bytes:
        try:
            async with asyncio.timeout(STORE_TIMEOUT):
                response = await obstore.get_async(self._store, _path(media.workspace_id, media.sha256))
                return bytes(await response.bytes_async())
        except (OSError, TimeoutError, obstore.exceptions.BaseError) as error:
            # No call to the network has begun, so that a store outage only delays.
            raise NotSent(f"the picture cannot be read from the store: {type(error).__name__}") from error


def _path(workspace_id: UUID, digest: bytes) -> str:
    return f"{workspace_id}/{digest.hex()}"


def _columns(normalised: Normalised) -> dict[str, object]:
    return {
        "content_type": normalised.content_type,
        "size": len(normalised.data),
        "width": normalised.width,
        "height": normalised.height,
        "frames": normalised.frames,
    }


def _to_media(row: Any) -> Media:
    return Media(row.id, row.workspace_id, row.sha256, row.content_type, row.size, row.width, row.height, row.frames)


_INSERT = text(
    """
    INSERT INTO media (id, workspace_id, sha256, content_type, size, width, height, frames, create_time)
    VALUES (:id, :workspace_id, :sha256, :content_type, :size, :width, :height, :frames, :now)
    ON CONFLICT ON CONSTRAINT media_once DO UPDATE SET frames = excluded.frames
    RETURNING *
    """
)

_FIND = text("SELECT * FROM media WHERE workspace_id = :workspace_id AND id = ANY(CAST(:ids AS uuid[]))")
