"""Why a picture is not taken.

PictureRefused
├── Unreadable   no whole picture of a type that is read
├── TooLarge     too many bytes or pixels
└── TooCostly    reading it takes more time or memory than one picture may
"""

from __future__ import annotations


class PictureRefused(Exception):
    """The picture is at fault. The message is a sentence for its uploader."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class Unreadable(PictureRefused):
    """The bytes are no whole picture of a type that is read."""


class TooLarge(PictureRefused):
    """The picture has too many bytes or pixels."""


class TooCostly(PictureRefused):
    """Reading the picture takes more time or memory than one picture may."""


REFUSALS: dict[str, type[PictureRefused]] = {kind.__name__: kind for kind in (Unreadable, TooLarge, TooCostly)}
"""By name, as a child process gives them."""
COSTLY = "this picture takes too much work to read: save it anew, smaller or without animation, and upload that"
