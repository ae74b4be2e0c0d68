"""MP4 videos: known by their first bytes, checked for being whole, and measured."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from datetime import timedelta

from regie_publisher.media.images import heif
from regie_publisher.media.videos.boxes import BadBoxes, Box, BoxReader, Read

MP4 = "video/mp4"
HEAD = 256
"""Bytes from which a file's kind is told."""
MAX_SIDE = 16_384
"""Pixels."""
MAX_DURATION = timedelta(days=1)
QUICKTIME = b"qt  "
SAVE_ANEW = "save the video anew as MP4 (H.264), and upload that"


class VideoRefused(Exception):
    """The video is at fault. The message is a sentence for its uploader."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


@dataclass(frozen=True, slots=True)
class VideoFacts:
    """The facts about a video; `width` and `height` are pixels as it is shown."""

    width: int
    height: int
    duration: timedelta


def is_video(head: bytes) -> bool:
    """True where the first bytes are those of MP4 and its relatives, and not of a picture in the same form."""
    return head[4:8] == b"ftyp" and not heif.brand_of(head)


async def measure(read: Read, size: int) -> VideoFacts:
    """Returns the facts of a whole MP4 file. Raises VideoRefused, and what `read` raises."""
    reader = BoxReader(read, size)
    try:
        return await _measure(reader)
    except BadBoxes as error:
        raise VideoRefused(f"the file is no whole MP4 video: {error}; {SAVE_ANEW}") from error


async def _measure(reader: BoxReader) -> VideoFacts:
    # Fragments follow one another to the end, and there may be thousands: the first is enough.
    top = {box.kind: box for box in reversed(await reader.boxes(0, reader.size, until=b"moof"))}
    if await reader.bytes_at(top[b"ftyp"].start, 4) == QUICKTIME:
        raise VideoRefused(f"the file is a QuickTime movie, which few networks take: {SAVE_ANEW}")
    if b"moov" not in top or not (b"mdat" in top or b"moof" in top):
        raise VideoRefused(f"the file has no video in it, or was cut off: {SAVE_ANEW}")
    movie = await reader.boxes(top[b"moov"].start, top[b"moov"].end)
    width, height = await _size(reader, movie)
    if not (1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE):
        raise VideoRefused(f"the file has no video track of 1 to {MAX_SIDE} pixels a side: {SAVE_ANEW}")
    duration = await _duration(reader, movie)
    if duration > MAX_DURATION:
        raise VideoRefused(f"the video says that it lasts longer than {MAX_DURATION.days} day: {SAVE_ANEW}")
    return VideoFacts(width, height, duration)


async def _duration(reader: BoxReader, movie: list[Box]) -> timedelta:
    """Reads `mvhd`, and `mehd` of a video in fragments, whose length is in the same units."""
    scale, length = 0, 0
    for box in movie:
        if box.kind == b"mvhd":  # version and flags, two times, the units of a second, the length in units
            wide = await _is_wide(reader, box)
            scale = await _number(reader, box, 20 if wide else 12)
            length = max(length, await _length(reader, box, 24 if wide else 16))
        elif box.kind == b"mvex":
            for inner in await reader.boxes(box.start, box.end):
                if inner.kind == b"mehd":
                    length = max(length, await _length(reader, inner, 4))
    if scale == 0:
        raise BadBoxes("its head is damaged")
    return timedelta(seconds=min(length / scale, 2 * MAX_DURATION.total_seconds()))


async def _size(reader: BoxReader, movie: list[Box]) -> tuple[int, int]:
    """Returns the size of the first video track as it is shown; (0, 0) where there is none."""
    for track in (box for box in movie if box.kind == b"trak"):
        parts = {box.kind: box for box in await reader.boxes(track.start, track.end)}
        if b"tkhd" not in parts or b"mdia" not in parts:
            continue
        media = await reader.boxes(parts[b"mdia"].start, parts[b"mdia"].end)
        handlers = [await reader.bytes_at(box.start + 8, 4) for box in media if box.kind == b"hdlr"]
        if handlers == [b"vide"]:
            return await _shown_size(reader, parts[b"tkhd"])
    return 0, 0


async def _shown_size(reader: BoxReader, header: Box) -> tuple[int, int]:
    """Reads `tkhd`, which ends in a matrix of nine numbers, the width and the height in 1/65536 pixels."""
    content = await reader.bytes_at(header.start, min(header.end - header.start, 96))
    if len(content) < 84:
        raise BadBoxes("the head of a track is damaged")
    matrix, (width, height) = struct.unpack(">9i", content[-44:-8]), struct.unpack(">II", content[-8:])
    size = (width >> 16, height >> 16)
    # A phone that is held upright turns its pixels by a quarter: the diagonal is empty.
    return size[::-1] if matrix[0] == matrix[4] == 0 else size


async def _is_wide(reader: BoxReader, box: Box) -> bool:
    """True for version 1, whose times and lengths have 64 bits."""
    return await reader.bytes_at(box.start, 1) == b"\x01"


async def _length(reader: BoxReader, box: Box, at: int) -> int:
    """Returns a length in units; 0 for all ones, which stand for a length that nobody knows."""
    width = 8 if await _is_wide(reader, box) else 4
    length = await _number(reader, box, at, width)
    return 0 if length == (1 << (8 * width)) - 1 else length


async def _number(reader: BoxReader, box: Box, at: int, width: int = 4) -> int:
    if box.start + at + width > box.end:
        raise BadBoxes("its head is damaged")
    return int.from_bytes(await reader.bytes_at(box.start + at, width), "big")
