"""Makes media of uploads: a picture is normalised in a child process, a video is kept as it is (ADR 0022, 0029).

The bytes stay in the object store; a picture passes through a temporary file, and no file through memory as a whole.
"""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import TypeVar

import obstore
from obstore.store import ObjectStore
from regie_chassis.boundary.errors import TooLarge, TooManyRequests, Unavailable, Unprocessable
from regie_chassis.boundary.ids import new_id
from regie_chassis.data.database import Database
from regie_chassis.data.object_store import STORE_TIMEOUT, store_outages
from regie_chassis.data.upload_area import Upload

from regie_publisher.media.images import refusals
from regie_publisher.media.images.container import check_size
from regie_publisher.media.images.picture import Normalised
from regie_publisher.media.images.pool import PicturePool, PoolBusy
from regie_publisher.media.media import Media, save_media
from regie_publisher.media.videos import mp4

COPY_TIMEOUT = 40.0
"""Seconds; a store copies a large object within itself, at its own pace."""
FIELD = "upload_id"
NO_ANSWER = "the file cannot be stored now; upload it again in a moment"

Answer = TypeVar("Answer")


class UploadLost(Unavailable):
    """The upload is not in the media store any more, or not as it was sent."""


class InvalidMedia(Unprocessable):
    """The bytes are not a whole picture or video of a supported type."""


class MediaTooLarge(TooLarge):
    """The picture has too many bytes or pixels."""


class MediaTooCostly(Unprocessable):
    """Reading the picture takes more time or memory than is allowed for one picture."""


class MediaQueueFull(TooManyRequests):
    """Too many pictures of the workspace are waiting to be read, or the machine is too busy."""


class Uploads:
    """Completes the uploads of all workspaces. One for each process."""

    def __init__(self, database: Database, store: ObjectStore, pool: PicturePool) -> None:
        self._database = database
        self._store = store
        self._pool = pool

    async def complete_upload(self, upload: Upload, *, declared_type: str, now: datetime) -> Media:
        """Stores the upload as a medium. The same bytes return the same medium of the workspace. The upload stays.

        Raises UploadLost, InvalidMedia, MediaTooLarge, MediaTooCostly, MediaQueueFull or MediaStoreUnavailable.
        """
        try:
            media = await self._keep(upload, declared_type)
        except FileNotFoundError as error:
            raise UploadLost("the upload is not there any more; upload the file again") from error
        async with self._database.transaction() as session:
            return await save_media(session, media, now=now)

    async def _keep(self, upload: Upload, declared_type: str) -> Media:
        stored = await self._ask(obstore.head_async(self._store, upload.path))
        if stored["size"] != upload.size:
            raise UploadLost("the upload is not there as a whole; upload the file again")
        if mp4.is_video(await self._range(upload, 0, min(mp4.HEAD, upload.size))):
            return await self._keep_video(upload)
        if declared_type.startswith("video/"):
            raise InvalidMedia(f"the content type says video, but the bytes are no MP4: {mp4.SAVE_ANEW}", field=FIELD)
        return await self._keep_picture(upload)

    async def _keep_video(self, upload: Upload) -> Media:
        async def read(start: int, end: int) -> bytes:
            return await self._range(upload, start, end)

        try:
            facts = await mp4.measure(read, upload.size)
        except mp4.VideoRefused as error:
            raise InvalidMedia(error.message, field=FIELD) from error
        media = Media(
            id=new_id(),
            workspace_id=upload.workspace_id,
            sha256=upload.sha256,
            content_type=mp4.MP4,
            size=upload.size,
            width=facts.width,
            height=facts.height,
            duration=facts.duration,
        )
        await self._ask(obstore.copy_async(self._store, upload.path, media.path), timeout=COPY_TIMEOUT)
        return media

    async def _keep_picture(self, upload: Upload) -> Media:
        normalised = await self._normalise(upload)
        media = Media(
            id=new_id(),
            workspace_id=upload.workspace_id,
            sha256=hashlib.sha256(normalised.data).digest(),
            content_type=normalised.content_type,
            size=len(normalised.data),
            width=normalised.width,
            height=normalised.height,
            frames=normalised.frames,
        )
        await self._ask(obstore.put_async(self._store, media.path, normalised.data))
        return media

    async def _normalise(self, upload: Upload) -> Normalised:
        try:
            check_size(upload.size)
            self._pool.check_room(upload.workspace_id, upload.size)
            async with self._downloaded(upload) as path:
                return await self._pool.normalise(path, size=upload.size, workspace_id=upload.workspace_id)
        except refusals.TooLarge as error:
            raise MediaTooLarge(error.message, field=FIELD) from error
        except refusals.TooCostly as error:
            raise MediaTooCostly(error.message, field=FIELD) from error
        except refusals.PictureRefused as error:
            raise InvalidMedia(error.message, field=FIELD) from error
        except PoolBusy as error:
            raise MediaQueueFull(str(error)) from error

    @asynccontextmanager
    async def _downloaded(self, upload: Upload) -> AsyncIterator[Path]:
        """Yields a file with the bytes of the upload, which is gone afterwards."""
        with tempfile.NamedTemporaryFile(prefix="regie-upload-") as file:
            digest = hashlib.sha256()
            with store_outages(NO_ANSWER):
                async with asyncio.timeout(STORE_TIMEOUT):
                    response = await obstore.get_async(self._store, upload.path)
                    async for chunk in response.stream():
                        data = bytes(chunk)
                        digest.update(data)
                        await asyncio.to_thread(file.write, data)
            file.flush()
            if digest.digest() != upload.sha256:
                raise UploadLost("the upload is not as it was sent; upload the file again")
            yield Path(file.name)

    async def _range(self, upload: Upload, start: int, end: int) -> bytes:
        if end <= start:
            return b""
        return bytes(await self._ask(obstore.get_range_async(self._store, upload.path, start=start, end=end)))

    async def _ask(self, call: Awaitable[Answer], *, timeout: float = STORE_TIMEOUT) -> Answer:
        with store_outages(NO_ANSWER):
            async with asyncio.timeout(timeout):
                return await call
