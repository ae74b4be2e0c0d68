"""The inputs and results of picture work: plain values that cross to the child processes."""

from __future__ import annotations

from dataclasses import dataclass

JPEG, PNG, WEBP, GIF = "image/jpeg", "image/png", "image/webp", "image/gif"


@dataclass(frozen=True, slots=True)
class Normalised:
    """A picture as it is stored: upright, sRGB, eight bits a sample, and nothing in it but the picture.

    `width` and `height` are its pixels; `frames` is more than 1 for an animation.
    """

    data: bytes
    content_type: str
    width: int
    height: int
    frames: int = 1
