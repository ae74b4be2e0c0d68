"""Smaller forms of stored pictures, for networks that take less. Runs in a child process."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO

from PIL import Image
from regie_networks.rendition import Bounds, Rendition

from regie_publisher.media.images.encoding import save
from regie_publisher.media.images.normalising import TYPES, damage_refused
from regie_publisher.media.images.picture import JPEG, PNG, WEBP
from regie_publisher.media.images.refusals import TooLarge, Unreadable

QUALITIES = (90, 82, 74)
SCALES = (1.0, 0.8, 0.6, 0.4, 0.25)
"""Of the largest allowed size; each is tried with every quality."""


def fit(data: bytes, bounds: Bounds) -> Rendition:
    """Returns the largest form of a stored still picture within the bounds. Raises PictureRefused. Blocks.

    Transparency stays where a form that has it is taken; else it becomes white.
    """
    with damage_refused(), Image.open(BytesIO(data), formats=list(TYPES)) as opened:
        image = _decoded(opened, bounds)
        for scaled in _scaled(image, bounds):
            for content_type, made in _files(scaled, bounds):
                if not bounds.max_bytes or len(made) <= bounds.max_bytes:
                    return Rendition(made, content_type, scaled.width, scaled.height)
    raise TooLarge(f"no form of the picture has {bounds.max_bytes} bytes or fewer: attach a smaller one")


def _decoded(opened: Image.Image, bounds: Bounds) -> Image.Image:
    clear = opened.has_transparency_data
    if clear and (WEBP in bounds.content_types or PNG in bounds.content_types):
        return opened.convert("RGBA")
    if JPEG not in bounds.content_types:
        return opened.convert("RGBA" if clear else "RGB")
    if clear:
        # JPEG has no transparency; black behind a logo would be the surprise.
        rgba = opened.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return opened.convert("L" if opened.mode in ("1", "L") else "RGB")


def _scaled(image: Image.Image, bounds: Bounds) -> Iterator[Image.Image]:
    largest = 1.0
    if bounds.max_pixels:
        largest = min(largest, (bounds.max_pixels / (image.width * image.height)) ** 0.5)
    if bounds.max_side:
        largest = min(largest, bounds.max_side / max(image.size))
    for scale in SCALES:
        # Rounded down where a limit forbids one pixel more, and never to nothing.
        width, height = (max(1, int(side * largest * scale + 1e-6)) for side in image.size)
        if (width, height) == image.size:
            yield image
        else:
            yield image.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=2.0)


def _files(image: Image.Image, bounds: Bounds) -> Iterator[tuple[str, bytes]]:
    clear = image.mode == "RGBA"
    if PNG in bounds.content_types and (clear or JPEG not in bounds.content_types):
        yield PNG, save(image, "PNG")
    if WEBP in bounds.content_types and (clear or JPEG not in bounds.content_types):
        for quality in QUALITIES:
            yield WEBP, save(image, "WEBP", quality=quality, method=2)
    if JPEG in bounds.content_types and not clear:
        for quality in QUALITIES:
            yield JPEG, save(image, "JPEG", quality=quality)
    if not set(bounds.content_types) & {JPEG, PNG, WEBP}:
        raise Unreadable(f"no form is known that is one of {', '.join(bounds.content_types)}")
