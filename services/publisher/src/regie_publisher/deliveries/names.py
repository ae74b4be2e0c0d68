"""Under which name a post on a network is a delivery's alone, in whatever spelling a person gives its address."""

from __future__ import annotations

import re
import unicodedata
from urllib.parse import unquote, urlsplit

from regie_publisher.connectors.connector import Remote
from regie_publisher.words import storable

_TOKEN = re.compile(r"[^\W_][\w-]*")
_ULID = re.compile(r"[0-9A-HJKMNP-TV-Z]{26}", re.IGNORECASE)
_ROUNDS = 4


def held_name(remote: Remote | None) -> str:
    """Returns the post's id, or what stands for the id in its address; empty for no post."""
    if remote is None:
        return ""
    if remote.id:
        return remote.id
    path, rest = _tokens(remote.url)
    with_digits = (token for tokens in (path, rest) for token in reversed(tokens) if any(map(str.isdigit, token)))
    name = next(with_digits, path[-1] if path else remote.url)
    return name.upper() if _ULID.fullmatch(name) else name


def is_named(remote_id: str, url: str) -> bool:
    """True where an address names the post: its id, or the last part of a longer one, stands in it as a whole word.

    A server's own pages hang words behind an id (`/embed`, `.json`), other clients put it into a fragment or a
    parameter, and it may be written in any case or encoding.
    """
    name = remote_id.partition("|")[0].rstrip("/").rpartition("/")[2].casefold()
    path, rest = _tokens(url)
    return bool(name) and name in {token.casefold() for token in (*path, *rest)} | {plain(url).casefold()}


def plain(url: str) -> str:
    """Returns an address without encodings, however often they were laid on each other, and invisible characters."""
    for _ in range(_ROUNDS):
        url = unquote(url)
    return "".join(sign for sign in storable(url) if unicodedata.category(sign) not in ("Cf", "Cc"))


def _tokens(url: str) -> tuple[list[str], list[str]]:
    """Returns the words of the path, and those of parameters and fragment; names of people are none."""
    parts = urlsplit(url)
    return _words(parts.path), _words(f"{parts.query}/{parts.fragment}")


def _words(text: str) -> list[str]:
    pieces = re.split(r"[/&=]", plain(text))
    return [word for piece in pieces if not piece.strip().startswith("@") for word in _TOKEN.findall(piece)]
