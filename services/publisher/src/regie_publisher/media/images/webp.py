"""WebP files, chunk by chunk (RFC 9649); they end at the length in the RIFF header."""

from __future__ import annotations

from collections.abc import Iterator

from regie_publisher.media.images.container import Container, check_canvas
from regie_publisher.media.images.exif import Facts, read_exif
from regie_publisher.media.images.refusals import Unreadable

DAMAGED = "the WebP picture is damaged or not whole: save it anew"
ALPHA, ANIMATION = 0x10, 0x02
_STILL = {b"VP8 ", b"VP8L", b"ALPH"}


def read_webp(data: bytes) -> Container:
    """Returns the picture of the file. Raises PictureRefused."""
    end = 8 + int.from_bytes(data[4:8], "little")
    if end > len(data):
        raise Unreadable(DAMAGED)
    chunks = list(_chunks(data[12:end]))
    first = dict(reversed(chunks))
    frames = [body for name, body in chunks if name == b"ANMF"]
    head = first.get(b"VP8X", b"")
    width, height = _size(first)
    animated = bool(len(head) == 10 and head[0] & ANIMATION and frames)
    check_canvas("WEBP", width, height, len(frames) if animated else 1)
    body = b"WEBP" + (_animated(head, first, frames) if animated else _still(head, chunks))
    pictures = chunks + [one for frame in frames for one in _chunks(frame[16:])]
    exif = read_exif(first[b"EXIF"]) if b"EXIF" in first else Facts()
    return Container(
        "WEBP",
        b"RIFF" + len(body).to_bytes(4, "little") + body,
        width,
        height,
        frames=max(len(frames), 1) if animated else 1,
        orientation=exif.orientation,
        profile=first.get(b"ICCP") or None,
        lossless=all(name != b"VP8 " for name, _body in pictures),
    )


def _still(head: bytes, chunks: list[tuple[bytes, bytes]]) -> bytes:
    parts: list[tuple[bytes, bytes]] = []
    for name in (b"ALPH", b"VP8 ", b"VP8L"):
        parts += [(name, body) for called, body in chunks if called == name][:1]
    if len([name for name, _body in parts if name != b"ALPH"]) != 1:
        raise Unreadable(DAMAGED)
    if head:
        parts.insert(0, (b"VP8X", bytes((head[0] & ALPHA,)) + b"\0\0\0" + head[4:10]))
    return b"".join(_chunk(name, body) for name, body in parts)


def _animated(head: bytes, first: dict[bytes, bytes], frames: list[bytes]) -> bytes:
    parts = [_chunk(b"VP8X", bytes((head[0] & (ALPHA | ANIMATION),)) + b"\0\0\0" + head[4:10])]
    parts.append(_chunk(b"ANIM", first.get(b"ANIM", b"")[:6].ljust(6, b"\0")))
    for frame in frames:
        inner = [_chunk(name, body) for name, body in _chunks(frame[16:]) if name in _STILL]
        if len(frame) < 16 or not inner:
            raise Unreadable(DAMAGED)
        parts.append(_chunk(b"ANMF", frame[:16] + b"".join(inner)))
    return b"".join(parts)


def _size(first: dict[bytes, bytes]) -> tuple[int, int]:
    """Returns the canvas from the head or, in a simple file, from the picture's own."""
    if len(first.get(b"VP8X", b"")) >= 10:
        head = first[b"VP8X"]
        return 1 + int.from_bytes(head[4:7], "little"), 1 + int.from_bytes(head[7:10], "little")
    lossless = first.get(b"VP8L", b"")
    if len(lossless) >= 5 and lossless[0] == 0x2F:
        bits = int.from_bytes(lossless[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    lossy = first.get(b"VP8 ", b"")
    if len(lossy) >= 10 and lossy[3:6] == b"\x9d\x01\x2a":
        return int.from_bytes(lossy[6:8], "little") & 0x3FFF, int.from_bytes(lossy[8:10], "little") & 0x3FFF
    raise Unreadable(DAMAGED)


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 0
    while at + 8 <= len(data):
        end = at + 8 + int.from_bytes(data[at + 4 : at + 8], "little")
        if end > len(data):
            raise Unreadable(DAMAGED)
        yield data[at : at + 4], data[at + 8 : end]
        at = end + (end - at) % 2


def _chunk(name: bytes, body: bytes) -> bytes:
    return name + len(body).to_bytes(4, "little") + body + b"\0" * (len(body) % 2)
