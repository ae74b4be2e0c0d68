"""Text from outside, in a form that a database and an event can hold."""

from __future__ import annotations


def storable(text: str) -> str:
    """Returns the text without NUL and lone surrogates, which networks do send."""
    if text.isascii() and "\x00" not in text:
        return text
    return text.replace("\x00", "").encode("utf-8", "replace").decode()
