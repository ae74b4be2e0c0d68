"""The upload area of the object store: one service streams a file in, another one takes it by reference (ADR 0029).

An upload is the object `uploads/<workspace>/<id>`. Who has written it removes it; `purge` removes what a process that
was killed has left.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from uuid import UUID

import obstore
from obstore.store import LocalStore, ObjectStore

from regie_chassis.data.object_store import OUTAGES, STORE_TIMEOUT, store_outages

FOLDER = "uploads"
PART = 5 * 1024 * 1024
"""Bytes of a part; the least that S3 takes, which takes 10,000 of them. One upload holds a few in memory."""
PARTS_IN_FLIGHT = 2
PURGE_BATCH = 1_000
NOT_STORED = "the file cannot be stored now; upload it again in a moment"


@dataclass(frozen=True, slots=True)
class Upload:
    """The reference of a file in the upload area; `size` is bytes."""

    id: UUID
    workspace_id: UUID
    size: int
    sha256: bytes

    @property
    def path(self) -> str:
        """The path of the object."""
        return f"{FOLDER}/{self.workspace_id}/{self.id}"


class UploadArea:
    """The uploads of all workspaces. The memory that one takes has a bound, whatever its size."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    @asynccontextmanager
    async def receive(
        self, body: AsyncIterator[bytes], *, upload_id: UUID, workspace_id: UUID
    ) -> AsyncIterator[Upload]:
        """Stores a file as it comes, yields its reference, and removes it in the end.

        Nothing stays where `body` raises, which is passed on. Raises MediaStoreUnavailable.
        """
        path = Upload(upload_id, workspace_id, 0, b"").path
        try:
            size, sha256 = await self._write(path, body)
            yield Upload(upload_id, workspace_id, size, sha256)
        finally:
            await self._remove(path)

    async def _write(self, path: str, body: AsyncIterator[bytes]) -> tuple[int, bytes]:
        size, digest = 0, hashlib.sha256()
        writer = obstore.open_writer_async(self._store, path, buffer_size=PART, max_concurrency=PARTS_IN_FLIGHT)
        try:
            async for chunk in body:
                size += len(chunk)
                digest.update(chunk)
                with store_outages(NOT_STORED):
                    async with asyncio.timeout(STORE_TIMEOUT):
                        await writer.write(chunk)
            with store_outages(NOT_STORED):
                async with asyncio.timeout(STORE_TIMEOUT):
                    await writer.close()
        finally:
            del writer  # one that was not closed takes its parts along
        return size, digest.digest()

    async def _remove(self, path: str) -> None:
        # An outage leaves it to `purge`: the answer to the upload does not depend on it.
        with suppress(*OUTAGES):
            async with asyncio.timeout(STORE_TIMEOUT):
                await obstore.delete_async(self._store, path)

    async def purge(self, *, now: datetime, life: timedelta) -> int:
        """Removes uploads whose last change is older than `life`; returns how many, zero when nothing is left.

        Raises MediaStoreUnavailable.
        """
        with store_outages("the upload area cannot be purged now"):
            if isinstance(self._store, LocalStore) and self._store.prefix is not None:
                return await asyncio.to_thread(
                    _purge_folder, Path(self._store.prefix) / FOLDER, (now - life).timestamp()
                )
            old: list[str] = []
            async for page in obstore.list(self._store, FOLDER, chunk_size=PURGE_BATCH):
                old += [one["path"] for one in page if one["last_modified"] < now - life]
                if len(old) >= PURGE_BATCH:
                    break
            if old:
                await obstore.delete_async(self._store, old[:PURGE_BATCH])
            return len(old)


def _purge_folder(folder: Path, before: float) -> int:
    """Removes old files, also those that a killed process was still writing, which the store does not list. Blocks."""
    removed = 0
    for path in folder.glob("*/*"):
        with suppress(FileNotFoundError):  # its owner was faster
            if path.stat().st_mtime < before:
                path.unlink()
                removed += 1
    return removed
