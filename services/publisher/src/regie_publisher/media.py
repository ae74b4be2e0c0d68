"""Pictures: looked at, freed of what their maker did not mean to publish, stored once, and read for networks.

The bytes are in an object store (a folder, or S3, GCS or Azure by URL) under their own hash, the facts in a table.
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
from regie_chassis.database import Database
from regie_chassis.errors import Unavailable
from regie_chassis.ids import new_id
from sqlalchemy import text

from regie_publisher.connectors.connector import NotSent, Picture
from regie_publisher.pictures import Looked, look

STORE_TIMEOUT = 20.0  # seconds
LOOKING = 2  # pictures decoded at once: each may take a few hundred MB


log = structlog.get_logger()


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


class Library:
    """The pictures of all workspaces. One for each process."""

    def __init__(self, database: Database, store: ObjectStore) -> None:
        self._database = database
        self._store = store
        self._looking = asyncio.Semaphore(LOOKING)

    async def upload(self, data: bytes, *, workspace_id: UUID, now: datetime) -> Media:
        """Stores a picture. The same bytes again are the same medium.

        Raises InvalidMedia, MediaTooLarge or MediaStoreUnavailable.
        """
        async with self._looking:
            looked = await asyncio.to_thread(look, data)
        digest = hashlib.sha256(looked.data).digest()
        await self._store_bytes(_path(workspace_id, digest), looked.data)
        async with self._database.transaction() as session:
            rows = await session.execute(
                _KEEP,
                {
                    "id": new_id(),
                    "workspace_id": workspace_id,
                    "sha256": digest,
                    **_facts(looked),
                    "now": now,
                },
            )
            return _media(rows.one())

    async def find(self, workspace_id: UUID, ids: Sequence[UUID]) -> dict[UUID, Media]:
        """Returns those of the media that the workspace has."""
        async with self._database.reading() as session:
            rows = await session.execute(
                text("SELECT * FROM media WHERE workspace_id = :workspace_id AND id = ANY(CAST(:ids AS uuid[]))"),
                {"workspace_id": workspace_id, "ids": list(ids)},
            )
            return {row.id: _media(row) for row in rows}

    def picture(self, media: Media, media_id: str, alt_text: str) -> Picture:
        """Returns a medium as connectors see it; the bytes are read when they are asked for."""
        return Picture(
            media_id,
            alt_text,
            media.content_type,
            media.size,
            media.width,
            media.height,
            partial(self._read, media),
        )

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
                answer = await obstore.get_async(self._store, _path(media.workspace_id, media.sha256))
                return bytes(await answer.bytes_async())
        except (OSError, TimeoutError, obstore.exceptions.BaseError) as error:
            # Nothing has left for the network, so that a store that is away only delays.
            raise NotSent(f"the picture cannot be read from the store: {type(error).__name__}") from error


def _path(workspace_id: UUID, digest: bytes) -> str:
    return f"{workspace_id}/{digest.hex()}"


def _facts(looked: Looked) -> dict[str, object]:
    return {
        "content_type": looked.content_type,
        "size": len(looked.data),
        "width": looked.width,
        "height": looked.height,
    }


def _media(row: Any) -> Media:
    return Media(row.id, row.workspace_id, row.sha256, row.content_type, row.size, row.width, row.height)


_KEEP = text(
    """
    INSERT INTO media (id, workspace_id, sha256, content_type, size, width, height, create_time)
    VALUES (:id, :workspace_id, :sha256, :content_type, :size, :width, :height, :now)
    ON CONFLICT ON CONSTRAINT media_once DO UPDATE SET content_type = excluded.content_type
    RETURNING *
    """
)
