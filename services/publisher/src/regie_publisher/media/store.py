"""Reads stored media for networks. The bytes are in the object store under their own hash, the facts in a table."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from uuid import UUID

import obstore
from obstore.store import ObjectStore
from regie_chassis.data.database import Database
from regie_chassis.data.object_store import OUTAGES, STORE_TIMEOUT
from regie_networks.draft import Attachment, Picture, Video
from regie_networks.errors import FailureKind, NotSent, Refused
from regie_networks.rendition import Bounds, Rendition

from regie_publisher.media.images import refusals
from regie_publisher.media.images.pool import PicturePool, PoolBusy
from regie_publisher.media.media import Media, find_media

STREAM_CHUNK = 1024 * 1024
"""Bytes of a video in memory at once."""


class MediaStore:
    """Finds and reads the media of all workspaces. One for each process."""

    def __init__(self, database: Database, store: ObjectStore, pool: PicturePool) -> None:
        self._database = database
        self._store = store
        self._pool = pool

    async def find(self, workspace_id: UUID, ids: Sequence[UUID]) -> dict[UUID, Media]:
        """Returns those of the media that the workspace has stored."""
        async with self._database.reading() as session:
            return await find_media(session, workspace_id=workspace_id, ids=ids)

    def attachment(self, media: Media, media_id: str, alt_text: str) -> Attachment:
        """Returns a medium as connectors see it; its bytes are read on demand."""
        return self.video(media, media_id, alt_text) if media.is_video else self.picture(media, media_id, alt_text)

    def picture(self, media: Media, media_id: str, alt_text: str) -> Picture:
        """Returns a picture as connectors see it."""
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

    def video(self, media: Media, media_id: str, alt_text: str) -> Video:
        """Returns a video as connectors see it."""
        return Video(
            media_id,
            alt_text,
            media.content_type,
            media.size,
            media.width,
            media.height,
            media.duration,
            partial(self._stream, media),
        )

    async def _fit(self, media: Media, bounds: Bounds) -> Rendition:
        data = await self._read(media)
        try:
            return await self._pool.fit(data, bounds, workspace_id=media.workspace_id)
        except refusals.PictureRefused as error:
            raise Refused(FailureKind.MEDIA_REJECTED, f"The picture cannot be made smaller: {error.message}") from error
        except PoolBusy as error:
            raise NotSent(f"The picture could not be made smaller yet: {error}") from error

    async def _read(self, media: Media) -> bytes:
        with _not_sent("picture"):
            async with asyncio.timeout(STORE_TIMEOUT):
                response = await obstore.get_async(self._store, media.path)
                return bytes(await response.bytes_async())

    async def _stream(self, media: Media) -> AsyncIterator[bytes]:
        with _not_sent("video"):
            for start in range(0, media.size, STREAM_CHUNK):
                end = min(start + STREAM_CHUNK, media.size)
                async with asyncio.timeout(STORE_TIMEOUT):
                    chunk = bytes(await obstore.get_range_async(self._store, media.path, start=start, end=end))
                yield chunk


@contextmanager
def _not_sent(what: str) -> Iterator[None]:
    """Turns an outage of the store into NotSent: nothing that people see has begun, so that it only delays."""
    try:
        yield
    except OUTAGES as error:
        raise NotSent(f"the {what} cannot be read from the store: {type(error).__name__}") from error
