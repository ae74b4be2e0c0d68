"""Makes a picture fit under the size that Bluesky takes."""

from __future__ import annotations

import asyncio
import io
import warnings
from dataclasses import dataclass

from PIL import Image, ImageOps

from regie_publisher.connectors.bluesky.records import MAX_PICTURE_BYTES
from regie_publisher.connectors.connector import FailureKind, Picture, Refused

QUALITIES = (90, 82, 74)
SIDES = (2000, 1600, 1200, 800)
"""Longest sides in pixels that are tried in turn, each with every quality."""


@dataclass(frozen=True, slots=True)
class Rendition:
    """What is sent in place of a picture."""

    data: bytes
    content_type: str
    width: int
    height: int


async def load_rendition(picture: Picture) -> Rendition:
    """Returns the picture as it is where it fits, else a JPEG of it that does.

    Raises `Refused(MEDIA_REJECTED)` for one that cannot be read or would lose its movement.
    """
    data = await picture.read()
    if len(data) <= MAX_PICTURE_BYTES:
        return Rendition(data, picture.content_type, picture.width, picture.height)
    return await asyncio.to_thread(_shrink, data)


def _shrink(data: bytes) -> Rendition:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            return _smaller_jpeg(data)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        message = f"The picture is over {MAX_PICTURE_BYTES} bytes and cannot be made smaller: attach a smaller one"
        raise Refused(FailureKind.MEDIA_REJECTED, message) from error


def _smaller_jpeg(data: bytes) -> Rendition:
    with Image.open(io.BytesIO(data)) as opened:
        if getattr(opened, "is_animated", False):
            message = f"An animation over {MAX_PICTURE_BYTES} bytes would lose its movement: attach a smaller one"
            raise Refused(FailureKind.MEDIA_REJECTED, message)
        flat = _on_white(ImageOps.exif_transpose(opened))
    for side in SIDES:
        scaled = flat.copy()
        scaled.thumbnail((side, side))
        for quality in QUALITIES:
            buffer = io.BytesIO()
            scaled.save(buffer, "JPEG", quality=quality, optimize=True)
            if buffer.tell() <= MAX_PICTURE_BYTES:
                return Rendition(buffer.getvalue(), "image/jpeg", scaled.width, scaled.height)
    raise ValueError("no smaller form fits")


def _on_white(image: Image.Image) -> Image.Image:
    """JPEG has no transparency; black behind a logo would be the surprise."""
    if not image.has_transparency_data:
        return image.convert("RGB")
    rgba = image.convert("RGBA")
    white = Image.new("RGBA", rgba.size, "white")
    return Image.alpha_composite(white, rgba).convert("RGB")
