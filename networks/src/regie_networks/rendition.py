"""The form of a picture that a network takes; plain values that cross to the child processes of the publisher."""

from __future__ import annotations

from dataclasses import dataclass

JPEG = "image/jpeg"


@dataclass(frozen=True, slots=True)
class Bounds:
    """The largest picture that a network takes; 0 is no limit. `content_types` are the forms to choose from."""

    max_bytes: int = 0
    max_pixels: int = 0
    max_side: int = 0
    content_types: tuple[str, ...] = (JPEG,)


@dataclass(frozen=True, slots=True)
class Rendition:
    """A form of a stored picture within somebody's bounds."""

    data: bytes
    content_type: str
    width: int
    height: int
