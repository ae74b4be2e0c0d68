"""Pictures as people, phones and attackers send them, made in memory."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from io import BytesIO
from typing import Any

from PIL import ExifTags, Image, ImageCms

from regie_publisher.media.images.png import SIGNATURE, chunk
from regie_publisher.media.images.profiles import D65, P3_PRIMARIES, matrix_profile

SECRET = b"48.8583 N 2.2944 E by Jane"
"""A text that no stored file may contain."""
P3 = matrix_profile(P3_PRIMARIES, D65, None)
CORNERS = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0))
"""Colours of `corners`: top left, top right, bottom left, bottom right."""


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    """Returns the file."""
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def opened(data: bytes) -> Image.Image:
    """Returns the decoded picture."""
    with Image.open(BytesIO(data)) as image:
        image.load()
        return image


def plain(kind: str = "PNG", size: tuple[int, int] = (40, 30), **options: Any) -> bytes:
    """Returns a picture of one colour."""
    return encoded(Image.new("RGB", size, "teal"), kind, **options)


def noise(size: tuple[int, int], mode: str = "RGB") -> Image.Image:
    """Returns pixels that no encoder makes small."""
    grey = Image.effect_noise(size, 90)
    return (
        grey
        if mode == "L"
        else Image.merge("RGB", (grey, grey.rotate(180), grey.transpose(Image.Transpose.FLIP_TOP_BOTTOM)))
    )


def corners(width: int = 64, height: int = 32) -> Image.Image:
    """Returns a picture that shows which way up it is."""
    small = Image.new("RGB", (2, 2))
    small.putdata(CORNERS)
    return small.resize((width, height), Image.Resampling.NEAREST)


def telling_exif(orientation: int = 1) -> bytes:
    """Returns EXIF with a camera and a position, as `Exif\\0\\0` and TIFF."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    exif[ExifTags.Base.Make] = SECRET.decode()
    exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitude] = (48.0, 51.0, 30.0)
    return exif.tobytes()


def jpeg_segment(code: int, body: bytes) -> bytes:
    """Returns a segment with its length."""
    return bytes((0xFF, code)) + struct.pack(">H", len(body) + 2) + body


def with_segments(jpeg: bytes, *segments: bytes) -> bytes:
    """Puts segments behind the start of a JPEG."""
    return jpeg[:2] + b"".join(segments) + jpeg[2:]


def scans_of(jpeg: bytes) -> list[int]:
    """Returns where the scans of a JPEG start."""
    starts, at = [], jpeg.find(b"\xff\xda")
    while at >= 0:
        starts.append(at)
        at = jpeg.find(b"\xff\xda", at + 2)
    return starts


def many_scans(size: tuple[int, int], scans: int) -> bytes:
    """Returns a small progressive JPEG that costs a pass over all its pixels for each scan."""
    jpeg = plain("JPEG", size, progressive=True)
    last = jpeg[scans_of(jpeg)[-1] : -2]
    return jpeg[:-2] + last * (scans - len(scans_of(jpeg))) + b"\xff\xd9"


def with_chunks(png: bytes, *chunks: bytes) -> bytes:
    """Puts chunks behind the head of a PNG."""
    return png[:33] + b"".join(chunks) + png[33:]


def png_of(head: Sequence[int], data: bytes, *chunks: bytes) -> bytes:
    """Returns a PNG of width, height, depth and colour type with these compressed data."""
    body = struct.pack(">IIBBBBB", *head, 0, 0, 0)
    return SIGNATURE + chunk(b"IHDR", body) + b"".join(chunks) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def with_riff_chunks(webp: bytes, *chunks: tuple[bytes, bytes], flags: int = 0) -> bytes:
    """Makes a simple WebP an extended one with these chunks behind its picture."""
    size = opened(webp).size
    head = bytes((flags,)) + b"\0\0\0" + b"".join((side - 1).to_bytes(3, "little") for side in size)
    parts = [riff_chunk(b"VP8X", head), webp[12:], *(riff_chunk(*one) for one in chunks)]
    return b"RIFF" + (4 + sum(map(len, parts))).to_bytes(4, "little") + b"WEBP" + b"".join(parts)


def riff_chunk(name: bytes, body: bytes) -> bytes:
    """Returns a chunk with its length."""
    return name + len(body).to_bytes(4, "little") + body + b"\0" * (len(body) % 2)


def animation(kind: str, size: tuple[int, int] = (40, 30), **options: Any) -> bytes:
    """Returns three frames."""
    frames = [Image.new("RGB", size, colour) for colour in ("red", "green", "blue")]
    return encoded(frames[0], kind, save_all=True, append_images=frames[1:], duration=200, loop=0, **options)


def srgb_profile() -> bytes:
    """Returns the profile that most files carry."""
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
