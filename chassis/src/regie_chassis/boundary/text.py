"""Text from outside, in a form that a database and an event can hold."""

from __future__ import annotations

import re

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def storable(text: str, *, most: int | None = None) -> str:
    """Returns the text with U+FFFD for each NUL and lone surrogate, cut after `most` characters.

    PostgreSQL takes neither of the two, protobuf no surrogates, and networks send both.
    """
    text = text[:most]
    if text.isascii() and "\x00" not in text:
        return text
    return _UNSTORABLE.sub("\ufffd", text)
