"""Receives uploaded files into the upload area of the media store, a few at once, so that no workspace takes all."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from uuid import UUID

from regie_chassis.boundary.errors import TooManyRequests
from regie_chassis.boundary.ids import new_id
from regie_chassis.data.upload_area import Upload, UploadArea


class TooManyUploads(TooManyRequests):
    """The workspace, or this replica, is receiving as many files as it may."""

    retry_after = 5  # seconds


class Uploads:
    """The files that this process is receiving, each in a bounded part of its memory.

    The last quarter of the places is for workspaces that have none.
    """

    def __init__(self, area: UploadArea, *, total: int, per_workspace: int) -> None:
        self._area = area
        self._total = total
        self._per_workspace = per_workspace
        self._counts: Counter[UUID] = Counter()

    @asynccontextmanager
    async def receive(self, body: AsyncIterator[bytes], *, workspace_id: UUID) -> AsyncIterator[Upload]:
        """Stores a file as it comes, yields its reference, and removes it in the end.

        Only a file that is still coming takes a place. Raises TooManyUploads and MediaStoreUnavailable, and passes on
        what `body` raises.
        """
        async with AsyncExitStack() as stack:
            with self._place(workspace_id):
                received = self._area.receive(body, upload_id=new_id(), workspace_id=workspace_id)
                upload = await stack.enter_async_context(received)
            yield upload

    @contextmanager
    def _place(self, workspace_id: UUID) -> Iterator[None]:
        own, free = self._counts[workspace_id], self._total - self._counts.total()
        if own >= self._per_workspace:
            raise TooManyUploads(f"{own} files of this workspace are being uploaded already; wait for one of them")
        if free <= (self._total // 4 if own else 0):
            raise TooManyUploads("too many files are being uploaded at once; try again in a moment")
        self._counts[workspace_id] += 1
        try:
            yield
        finally:
            self._counts[workspace_id] -= 1
            if not self._counts[workspace_id]:
                del self._counts[workspace_id]
