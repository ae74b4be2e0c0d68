"""GIF files, block by block (GIF89a): frames and their timing stay, of the extensions only the count of repetitions."""

from __future__ import annotations

from regie_publisher.media.images.container import Container, check_canvas
from regie_publisher.media.images.refusals import Unreadable

DAMAGED = "the GIF picture is damaged or not whole: save it anew"
REPETITIONS = (b"NETSCAPE2.0", b"ANIMEXTS1.0")
_EXTENSION, _IMAGE, _END = 0x21, 0x2C, 0x3B
_CONTROL, _APPLICATION = 0xF9, 0xFF


def read_gif(data: bytes) -> Container:
    """Returns the picture of the file. Raises PictureRefused."""
    if len(data) < 13:
        raise Unreadable(DAMAGED)
    width, height = int.from_bytes(data[6:8], "little"), int.from_bytes(data[8:10], "little")
    at = 13 + _table(data[10])
    kept, frames = [data[:at]], 0
    while at < len(data) and data[at] != _END:
        if data[at] == 0:
            at += 1  # XMP leaves one behind
            continue
        start = at
        if data[at] == _EXTENSION:
            at = _blocks_end(data, at + 2)
            kept.append(_kept_extension(data[start:at]))
        elif data[at] == _IMAGE and at + 10 < len(data):
            frames += 1
            _check_place(data[at : at + 10], width, height)
            at = _blocks_end(data, at + 11 + _table(data[at + 9]))
            kept.append(data[start:at])
        else:
            raise Unreadable(DAMAGED)
    if not frames or at >= len(data):
        raise Unreadable(DAMAGED)
    check_canvas("GIF", width, height, frames)
    return Container("GIF", b"".join(kept) + b"\x3b", width, height, frames=frames)


def _table(flags: int) -> int:
    """Returns the bytes of a colour table."""
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _blocks_end(data: bytes, at: int) -> int:
    """Returns where a chain of data blocks ends."""
    while at < len(data) and data[at]:
        at += 1 + data[at]
    if at >= len(data):
        raise Unreadable(DAMAGED)
    return at + 1


def _kept_extension(block: bytes) -> bytes:
    if block[1] == _CONTROL and block[2] == 4:
        return block[:7] + b"\0"
    if block[1] == _APPLICATION and block[3:14] in REPETITIONS and block[2] == 11 and block[14:16] == b"\x03\x01":
        return block[:18] + b"\0"
    return b""


def _check_place(descriptor: bytes, width: int, height: int) -> None:
    left, top, across, down = (int.from_bytes(descriptor[at : at + 2], "little") for at in (1, 3, 5, 7))
    if not across or not down or left + across > width or top + down > height:
        raise Unreadable(DAMAGED)
