"""Under which name a post on a network is a delivery's alone, in whatever spelling a person gives its address."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import unquote, urlsplit

from regie_publisher.connectors.connector import Remote

MAX_PIECES = 50


def held_name(remote: Remote | None) -> str:
    """Returns the post's id, or what stands for the id in its address; empty for no post."""
    if remote is None:
        return ""
    if remote.id:
        return remote.id
    path, rest = _pieces(remote.url)
    with_digits = (piece for pieces in (path, rest) for piece in reversed(pieces) if any(map(str.isdigit, piece)))
    return next(with_digits, path[-1] if path else remote.url)


def names_in(url: str) -> list[str]:
    """Returns everything in an address that may be a post's id: an address has many spellings, and an id has one.

    A server's own pages hang words behind it (`/embed`), other clients put it into a fragment or a parameter.
    """
    path, rest = _pieces(url)
    return [url, *path, *rest]


def _pieces(url: str) -> tuple[list[str], list[str]]:
    """Returns the pieces of the path, and those of fragment and parameters; names of people are none."""
    parts = urlsplit(url)
    values = [unquote(pair.partition("=")[2]) for pair in parts.query.split("&")]
    return _split([parts.path]), _split([parts.fragment, *values])


def _split(texts: Iterable[str]) -> list[str]:
    pieces = (unquote(piece).strip() for text in texts for piece in text.split("/"))
    return [piece for piece in pieces if piece and not piece.startswith("@")][:MAX_PIECES]
