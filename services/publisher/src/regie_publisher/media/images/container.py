"""A picture file taken apart and put together again from its allowed parts, before anything decodes it."""

from __future__ import annotations

from dataclasses import dataclass

from regie_publisher.media.images.refusals import TooLarge

MAX_BYTES = 10_000_000
MAX_PIXELS = 50_000_000
"""Of one frame; a small file can unpack into a huge picture."""
MAX_ANIMATION_PIXELS = 150_000_000
"""Of all frames together."""
DECODER_CANVASES = {"WEBP": 3}
"""Canvases that a decoder of animations holds at once, by type; one where none is given."""


@dataclass(frozen=True, slots=True)
class Container:
    """The contents of a file. `data` is rebuilt from allowed parts: no text, position, thumbnail or trailing bytes.

    `width` and `height` are those of the canvas as stored, before `orientation` (EXIF, 1 to 8) turns it. `profile` is
    the ICC profile of the pixels, which `data` no longer has; None is sRGB.
    """

    kind: str
    data: bytes
    width: int
    height: int
    frames: int = 1
    orientation: int = 1
    profile: bytes | None = None
    deep: bool = False
    """More than eight bits a sample."""
    surplus: bool = False
    """The compressed data hold more than the pixels."""
    lossless: bool = True
    entropy: tuple[int, int] | None = None
    """The span of a JPEG's only scan, if its end is known exactly; None for progressive ones."""


def check_size(size: int) -> None:
    """Raises TooLarge for more bytes than are taken."""
    if size > MAX_BYTES:
        raise TooLarge(f"the picture has {size} bytes; {MAX_BYTES} are allowed")


def check_canvas(kind: str, width: int, height: int, frames: int = 1) -> None:
    """Raises TooLarge for more pixels than are decoded here. Cheap: nothing is decoded for it."""
    if width * height > MAX_PIXELS:
        raise TooLarge(f"the picture has {width} x {height} pixels; {MAX_PIXELS} are allowed")
    if frames > 1:
        canvases = DECODER_CANVASES.get(kind, 1)
        if width * height * canvases > MAX_PIXELS or width * height * frames > MAX_ANIMATION_PIXELS:
            raise TooLarge(
                f"the animation has {frames} frames of {width} x {height} pixels; {MAX_PIXELS // canvases} a frame and "
                f"{MAX_ANIMATION_PIXELS} in all are allowed"
            )
