"""Pixels into files that hold nothing else, below the size that is stored."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from PIL import Image, JpegImagePlugin

from regie_publisher.media.images.container import MAX_BYTES
from regie_publisher.media.images.refusals import TooLarge

QUALITIES = (93, 84, 72)
"""Tried in turn until the file is small enough."""
LARGE = 4_000_000
"""Pixels from which on speed counts more than the last tenth of the size."""


@dataclass(frozen=True, slots=True)
class Style:
    """The encoding of the source, so that its new form loses and weighs about as little.

    `tables` are a JPEG's quantisation; `subsampling` is 0 for full chroma and 2 for a quarter of it.
    """

    lossless: bool = True
    tables: Any = None
    subsampling: int = 0


def style_of(image: Image.Image, *, lossless: bool) -> Style:
    """Returns the style of an opened picture."""
    if not isinstance(image, JpegImagePlugin.JpegImageFile) or image.mode == "CMYK":
        return Style(lossless)
    sampling = JpegImagePlugin.get_sampling(image)
    return Style(lossless, dict(image.quantization), sampling if sampling in (0, 1, 2) else 2)


def encode(image: Image.Image, kind: str, style: Style) -> bytes:
    """Returns the file. An opaque picture that is too large as PNG becomes JPEG. Raises TooLarge."""
    for form, options in _forms(image, kind, style):
        flat = image.convert("RGB") if form == "JPEG" and image.mode not in ("L", "RGB") else image
        data = save(flat, form, **options)
        if len(data) <= MAX_BYTES:
            return data
    raise TooLarge(f"the picture, turned upright and into sRGB, has over {MAX_BYTES} bytes: make it smaller")


def save(image: Image.Image, form: str, **options: Any) -> bytes:
    """Returns the file of the pixels and of their transparency, and of nothing else that Pillow carries along."""
    bare = image.copy() if image.info.keys() - {"transparency"} else image
    bare.info = {name: value for name, value in image.info.items() if name == "transparency"}
    buffer = BytesIO()
    bare.save(buffer, form, **options)
    return buffer.getvalue()


def _forms(image: Image.Image, kind: str, style: Style) -> Iterator[tuple[str, dict[str, Any]]]:
    large = image.width * image.height > LARGE
    if kind == "PNG":
        yield "PNG", {"compress_level": 3 if large else 6}
    if kind == "WEBP" and style.lossless:
        yield "WEBP", {"lossless": True, "quality": 20, "method": 0 if large else 3}
    if kind == "WEBP":
        for quality in QUALITIES:
            yield "WEBP", {"quality": quality, "method": 2}
    elif not image.has_transparency_data:
        if style.tables:
            yield "JPEG", {"qtables": style.tables, "subsampling": style.subsampling}
        for quality in QUALITIES:
            yield "JPEG", {"quality": quality, "subsampling": style.subsampling}
