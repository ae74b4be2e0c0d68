"""The boxes of an ISO media file (ISO/IEC 14496-12), read where they lie: few small reads for a video of any size."""

from __future__ import annotations

import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

BLOCK = 64 * 1024
"""Bytes that one read of the store asks for."""
MAX_BOXES = 500
"""Boxes that are looked at in one file; a video has some tens, one in fragments a few thousand after its head."""

Read = Callable[[int, int], Awaitable[bytes]]
"""Returns the bytes between two offsets of a stored file."""


class BadBoxes(Exception):
    """The file is not made of whole boxes."""


@dataclass(frozen=True, slots=True)
class Box:
    """One box: its type, and where its content begins and ends in the file."""

    kind: bytes
    start: int
    end: int


class BoxReader:
    """Reads the boxes of one file of `size` bytes."""

    def __init__(self, read: Read, size: int) -> None:
        self._read = read
        self.size = size
        self._block = b""
        self._block_start = 0
        self._seen = 0

    async def boxes(self, start: int, end: int, *, until: bytes = b"") -> list[Box]:
        """Returns the boxes between two offsets, which they fill, up to the first of a kind. Raises BadBoxes."""
        found: list[Box] = []
        while start < end and not (found and found[-1].kind == until):
            self._seen += 1
            if self._seen > MAX_BOXES:
                raise BadBoxes("it has too many parts")
            found.append(await self._box(start, end))
            start = found[-1].end
        return found

    async def _box(self, start: int, end: int) -> Box:
        head = await self.bytes_at(start, min(16, end - start))
        if len(head) < 8:
            raise BadBoxes("it ends in the middle of a part")
        size, kind = struct.unpack(">I4s", head[:8])
        length = 8
        if size == 1:
            if len(head) < 16:
                raise BadBoxes("it ends in the middle of a part")
            (size,) = struct.unpack(">Q", head[8:])
            length = 16
        elif size == 0:  # up to the end
            size = end - start
        if size < length or start + size > end:
            raise BadBoxes("a part of it is missing or damaged")
        return Box(kind, start + length, start + size)

    async def bytes_at(self, start: int, length: int) -> bytes:
        """Returns bytes of the file, fewer at its end."""
        end = min(start + length, self.size)
        if not (self._block_start <= start and end <= self._block_start + len(self._block)):
            self._block = await self._read(start, min(start + max(length, BLOCK), self.size))
            self._block_start = start
        at = start - self._block_start
        return self._block[at : at + end - start]
