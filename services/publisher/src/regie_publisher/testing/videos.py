"""MP4 files made by hand, box by box, without a picture in them."""

from __future__ import annotations

import struct

UPRIGHT = (0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
QUARTER_TURN = (0, 0x10000, 0, -0x10000, 0, 0, 0, 0, 0x40000000)


def box(kind: bytes, *contents: bytes) -> bytes:
    """Returns a box."""
    content = b"".join(contents)
    return struct.pack(">I4s", 8 + len(content), kind) + content


def large_box(kind: bytes, content: bytes) -> bytes:
    """Returns a box whose size has 64 bits, as one of more than 4 GiB has."""
    return struct.pack(">I4sQ", 1, kind, 16 + len(content)) + content


def head(brand: bytes = b"isom") -> bytes:
    """Returns `ftyp`."""
    return box(b"ftyp", brand, bytes(4), b"isom", b"mp42")


def movie_head(*, units: int = 1000, length: int = 2500, wide: bool = False) -> bytes:
    """Returns `mvhd`."""
    if wide:
        return box(b"mvhd", b"\1\0\0\0", bytes(16), struct.pack(">IQ", units, length), bytes(80))
    return box(b"mvhd", bytes(4), bytes(8), struct.pack(">II", units, length), bytes(80))


def track(width: int = 640, height: int = 360, *, handler: bytes = b"vide", matrix: tuple[int, ...] = UPRIGHT) -> bytes:
    """Returns `trak`."""
    shape = struct.pack(">9iII", *matrix, width << 16, height << 16)
    return box(
        b"trak",
        box(b"tkhd", bytes(40), shape),
        box(b"mdia", box(b"mdhd", bytes(24)), box(b"hdlr", bytes(8), handler, bytes(13))),
    )


def mp4(*, size: int = 0, movie: bytes | None = None, movie_first: bool = False, brand: bytes = b"isom") -> bytes:
    """Returns a whole MP4 file with `size` bytes of data; by default 640 x 360 pixels that play for 2.5 s."""
    described = box(b"moov", movie_head(), track(handler=b"soun"), track()) if movie is None else movie
    data = box(b"mdat", bytes(size))
    return head(brand) + (described + data if movie_first else data + described)
