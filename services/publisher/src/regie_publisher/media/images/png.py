"""PNG files, chunk by chunk (W3C PNG, third edition).

The chunks of the pixels and of their animation are kept. Those that give the colours a meaning become pixels.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from regie_publisher.media.images.cicp import profile_of_code_points
from regie_publisher.media.images.container import Container, check_canvas
from regie_publisher.media.images.exif import Facts, read_exif
from regie_publisher.media.images.profiles import D65, SRGB_PRIMARIES, matrix_profile
from regie_publisher.media.images.refusals import Unreadable

SIGNATURE = b"\x89PNG\r\n\x1a\n"
DAMAGED = "the PNG picture is damaged or not whole: save it anew"
MAX_PROFILE_BYTES = 4_000_000
PIECE = 1_000_000
"""Bytes decompressed at a time."""

_KEPT = {b"IHDR": 13, b"PLTE": 768, b"tRNS": 256, b"bKGD": 6, b"pHYs": 9}
"""The largest body of each."""
_ANIMATION = {b"acTL": 8, b"fcTL": 26}
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""Adam7: first column and row, step across and down."""


@dataclass(slots=True)
class _Frame:
    """One compressed picture of the file."""

    width: int
    height: int
    pieces: list[bytes] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Head:
    width: int
    height: int
    depth: int
    colour: int
    interlaced: bool

    def raw_bytes(self, width: int, height: int) -> int:
        """Returns how many bytes the filtered rows of a frame of this size have."""
        bits = self.depth * _SAMPLES[self.colour]
        passes = _PASSES if self.interlaced else ((0, 0, 1, 1),)
        total = 0
        for column, row, across, down in passes:
            columns, rows = -(-(width - column) // across), -(-(height - row) // down)
            if columns > 0 and rows > 0:
                total += rows * (1 + -(-columns * bits // 8))
        return total


def read_png(data: bytes) -> Container:
    """Returns the picture of the file. Raises PictureRefused."""
    chunks = list(_chunks(data))
    if not chunks or chunks[0][0] != b"IHDR" or [name for name, _body in chunks].count(b"IHDR") != 1:
        raise Unreadable(DAMAGED)
    head = _read_head(chunks[0][1])
    controls = [body for name, body in chunks if name == b"fcTL"]
    animated = len(controls) > 1 and any(name == b"acTL" for name, _body in chunks)
    frames = len(controls) if animated else 1
    check_canvas("PNG", head.width, head.height, frames)
    surplus = [_surplus(frame.pieces, head.raw_bytes(frame.width, frame.height)) for frame in _frames(head, chunks)]
    first = dict(reversed(chunks))
    exif = read_exif(first[b"eXIf"]) if b"eXIf" in first else Facts()
    return Container(
        "PNG",
        SIGNATURE + b"".join(chunk(name, body) for name, body in chunks if _is_kept(name, body, animated=animated)),
        head.width,
        head.height,
        frames=frames,
        orientation=exif.orientation,
        profile=_profile(first),
        deep=head.depth == 16,
        surplus=any(surplus),
    )


def chunk(name: bytes, body: bytes) -> bytes:
    """Returns a chunk with its length and check sum."""
    return len(body).to_bytes(4, "big") + name + body + zlib.crc32(name + body).to_bytes(4, "big")


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = len(SIGNATURE)
    while at + 12 <= len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        name, body = data[at + 4 : at + 8], data[at + 8 : end - 4]
        if end > len(data) or zlib.crc32(name + body) != int.from_bytes(data[end - 4 : end], "big"):
            raise Unreadable(DAMAGED)
        yield name, body
        if name == b"IEND":
            return  # whatever is glued on after the end is not the picture
        at = end
    raise Unreadable(DAMAGED)


def _read_head(body: bytes) -> _Head:
    if len(body) != 13:
        raise Unreadable(DAMAGED)
    width, height = int.from_bytes(body[:4], "big"), int.from_bytes(body[4:8], "big")
    if not width or not height or body[9] not in _SAMPLES or body[8] not in (1, 2, 4, 8, 16):
        raise Unreadable(DAMAGED)
    return _Head(width, height, body[8], body[9], interlaced=body[12] == 1)


def _is_kept(name: bytes, body: bytes, *, animated: bool) -> bool:
    if name in (b"IDAT", b"IEND"):
        return True
    if animated and (name == b"fdAT" or name in _ANIMATION):
        return True
    return len(body) <= _KEPT.get(name, -1)


def _frames(head: _Head, chunks: Iterable[tuple[bytes, bytes]]) -> list[_Frame]:
    """Returns the compressed pictures: the still one, and of an animation all others."""
    still = _Frame(head.width, head.height)
    frames = [still]
    for name, body in chunks:
        if name == b"IDAT":
            still.pieces.append(body)
        elif name == b"fcTL":
            width, height = int.from_bytes(body[4:8], "big"), int.from_bytes(body[8:12], "big")
            if len(body) != 26 or not 1 <= width <= head.width or not 1 <= height <= head.height:
                raise Unreadable(DAMAGED)
            frames.append(_Frame(width, height))
        elif name == b"fdAT":
            frames[-1].pieces.append(body[4:])
    return [still, *(frame for frame in frames[1:] if frame.pieces)]


def _surplus(pieces: Iterable[bytes], expected: int) -> bool:
    """Returns whether the data hold more than the rows. Raises Unreadable if they hold less."""
    unpacker = zlib.decompressobj()
    size = 0
    pieces = iter(pieces)
    for piece in pieces:
        rest = piece
        while rest and not unpacker.eof and size <= expected:
            try:
                size += len(unpacker.decompress(rest, PIECE))
            except zlib.error as error:
                raise Unreadable(DAMAGED) from error
            rest = unpacker.unconsumed_tail
        if unpacker.eof or size > expected:
            break
    if size < expected:
        raise Unreadable(DAMAGED)
    return size > expected or not unpacker.eof or bool(unpacker.unused_data) or any(pieces)


def _profile(first: dict[bytes, bytes]) -> bytes | None:
    """Returns the colour space, by the order of precedence of the specification."""
    if len(first.get(b"cICP", b"")) == 4:
        return profile_of_code_points(first[b"cICP"][0], first[b"cICP"][1])
    if b"iCCP" in first:
        return _embedded_profile(first[b"iCCP"])
    if b"sRGB" in first or len(first.get(b"gAMA", b"")) != 4:
        return None
    return _described_profile(int.from_bytes(first[b"gAMA"], "big"), first.get(b"cHRM", b""))


def _embedded_profile(body: bytes) -> bytes | None:
    _name, _zero, rest = body.partition(b"\0")
    try:
        return zlib.decompressobj().decompress(rest[1:], MAX_PROFILE_BYTES) or None
    except zlib.error:
        return None  # as browsers do: a damaged profile says nothing


def _described_profile(gamma: int, chromaticities: bytes) -> bytes | None:
    white, primaries = D65, SRGB_PRIMARIES
    if len(chromaticities) == 32:
        values = [int.from_bytes(chromaticities[at : at + 4], "big") / 100_000 for at in range(0, 32, 4)]
        white = values[0], values[1]
        primaries = (values[2], values[3]), (values[4], values[5]), (values[6], values[7])
    # 1/2.2 is how files say sRGB that know gamma only; the dark tones of a true power would differ.
    curve = None if 45_000 <= gamma <= 46_000 else 100_000 / gamma if 10_000 <= gamma <= 1_000_000 else None
    try:
        return matrix_profile(primaries, white, curve)
    except (ValueError, ZeroDivisionError, OverflowError):
        return None
