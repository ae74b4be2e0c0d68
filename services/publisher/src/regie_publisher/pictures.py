"""Looks at the bytes of a picture: what they are, whether they are whole, and what they tell about their maker.

Pixels are never encoded anew, so a network gets what the person uploaded, less position, camera and comments: only
the orientation is kept of EXIF, since without it a picture lies on its side.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO

from PIL import ExifTags, Image, UnidentifiedImageError
from regie_chassis.errors import TooLarge, Unprocessable

LARGEST = 10_000_000
"""Bytes."""
MOST_PIXELS = 50_000_000
"""Of one frame; a small file can unpack into a huge picture."""
TYPES = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp", "GIF": "image/gif"}

_PNG_TELLS = {b"eXIf", b"tEXt", b"zTXt", b"iTXt", b"tIME"}
_WEBP_TELLS = {b"EXIF", b"XMP "}


class InvalidMedia(Unprocessable):
    """The bytes are no whole picture of a type that networks take."""


class MediaTooLarge(TooLarge):
    """The picture has too many bytes or pixels."""


@dataclass(frozen=True, slots=True)
class Looked:
    """A picture that was found to be one."""

    data: bytes
    content_type: str
    width: int
    height: int


def look(data: bytes) -> Looked:
    """Returns what the picture is, with the bytes to keep. Raises InvalidMedia or MediaTooLarge. Blocks."""
    if len(data) > LARGEST:
        raise MediaTooLarge(f"the picture has {len(data)} bytes; {LARGEST} are allowed", field="data")
    try:
        with Image.open(BytesIO(data), formats=list(TYPES)) as image:
            _count_pixels(image)
            image.load()
            kind, width, height = image.format or "", image.width, image.height
            orientation = int(image.getexif().get(ExifTags.Base.Orientation, 1))
        if 5 <= orientation <= 8:
            width, height = height, width  # as people see it
        return Looked(_without_tells(data, kind, orientation), TYPES[kind], width, height)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise MediaTooLarge(f"the picture has too many pixels; {MOST_PIXELS} are allowed", field="data") from error
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise InvalidMedia("the bytes are not a whole PNG, JPEG, WebP or GIF picture", field="data") from error
    except (EOFError, IndexError, KeyError, TypeError, struct.error, zlib.error, OverflowError) as error:
        raise InvalidMedia("the picture is damaged", field="data") from error


def _count_pixels(image: Image.Image) -> None:
    if image.width * image.height > MOST_PIXELS:
        raise MediaTooLarge(
            f"the picture has {image.width} x {image.height} pixels; {MOST_PIXELS} are allowed", field="data"
        )


def _without_tells(data: bytes, kind: str, orientation: int) -> bytes:
    match kind:
        case "JPEG":
            return _clean_jpeg(data, orientation)
        case "PNG":
            return data[:8] + b"".join(chunk for name, chunk in _png_chunks(data) if name not in _PNG_TELLS)
        case "WEBP":
            return _clean_webp(data)
        case _:
            return data


def _clean_jpeg(data: bytes, orientation: int) -> bytes:
    """Drops APP1 (EXIF, XMP), APP13 (IPTC) and comments; JFIF, colour profiles and the picture stay."""
    kept = [data[:2]]
    if 2 <= orientation <= 8:
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = orientation
        body = exif.tobytes()
        kept.append(b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body)
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != 0xDA:
        if data[at + 1] == 0xFF:
            at += 1
            continue
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if data[at + 1] not in (0xE1, 0xED, 0xFE):
            kept.append(data[at:end])
        at = end
    return b"".join(kept) + data[at:]


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 8
    while at + 12 <= len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        name = data[at + 4 : at + 8]
        yield name, data[at:end]
        if name == b"IEND":
            return  # whatever is glued on after the end is not the picture
        at = end


def _clean_webp(data: bytes) -> bytes:
    kept: list[bytes] = []
    at = 12
    while at + 8 <= len(data):
        name = data[at : at + 4]
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        end = at + 8 + length + length % 2
        chunk = data[at:end]
        if name == b"VP8X":
            chunk = chunk[:8] + bytes([chunk[8] & ~0x0C]) + chunk[9:]  # the flags that announce EXIF and XMP
        if name not in _WEBP_TELLS:
            kept.append(chunk)
        at = end
    body = b"WEBP" + b"".join(kept)
    return b"RIFF" + len(body).to_bytes(4, "little") + body
