"""The bounds of a network's data: ids, names, addresses, numbers, people.

A network's server is somebody's own machine, and may be hostile. The types of the contract are built from the results
of these functions, so that no connector can hand on a value that a row, an index, an event or a reader cannot hold.
"""

from __future__ import annotations

import re
import unicodedata
from datetime import timedelta
from urllib.parse import SplitResult, urlsplit

MAX_ID_BYTES = 500
"""Of an id in UTF-8: several of them are keys of an index, and PostgreSQL's take 2,700 bytes."""
MAX_ACTOR_ID = 400
"""Characters. With the network's name before it, a person's id still is an external id of a profile (500)."""
MAX_NAME = 500
"""Characters of a handle or a display name."""
MAX_DOMAIN = 253
"""RFC 1035, section 2.3.4."""
MAX_URL = 2048
"""Characters."""
MAX_TOTAL = 10**15
"""Of a post's likes or views; the metrics service takes no more."""
MAX_PEOPLE = 80
"""Of one reading of one post: the most that a network shows on a first page."""
MAX_SENTENCE = 1000
"""Characters of an error's message."""
MAX_REPLY = 10_000
"""Characters of a reply that is read."""
MAX_HANDLE = 10_000
"""Characters of the handle of a prepared upload or of a post that is being processed."""
MAX_SECRET = 20_000
"""Characters of one token: OAuth tokens that are JWTs with many claims reach a few thousand."""
MAX_SECRETS = 20
MIN_WAIT = timedelta(seconds=1)
"""The shortest wait that a network can ask for: such a wait counts as no try, and could be repeated for ever."""
MAX_WAIT = timedelta(hours=24)
"""No network's word makes a delivery wait longer than its longest known window."""

_PLAIN_URL = re.compile(r"https?://[A-Za-z0-9][A-Za-z0-9.-]*(:[0-9]{1,4})?(/[A-Za-z0-9@/._~-]*)?")
_JOINERS = "\u200c\u200d"
"""Invisible, and still part of how words and emoji are written."""


def is_id(value: object, *, most: int = MAX_ID_BYTES) -> bool:
    """True for text that can be an id: printable, not empty, and within its bound in bytes."""
    if not isinstance(value, str) or not value or len(value) > most:
        return False
    return value.isprintable() and len(value.encode()) <= most


def is_actor_id(value: object) -> bool:
    """True for a person's id that makes a valid external id of a profile."""
    return isinstance(value, str) and 0 < len(value) <= MAX_ACTOR_ID and value.isprintable()


def is_total(value: object) -> bool:
    """True for a whole number that a post can have collected."""
    return type(value) is int and 0 <= value <= MAX_TOTAL


def same_place(url: str, server_url: str) -> bool:
    """True where an address leads to the server: its host and port, whether by http or https."""
    one, other = urlsplit(url), urlsplit(server_url)
    return (one.hostname, _port(one)) == (other.hostname, _port(other))


def _port(parts: SplitResult) -> int | None:
    return None if parts.port in (80, 443) else parts.port


def web_url(value: object) -> str:
    """Returns an address that a reader may safely open, else an empty string."""
    if not isinstance(value, str) or len(value) > MAX_URL:
        return ""
    if _PLAIN_URL.fullmatch(value):  # nearly all are
        return value
    if not value.isprintable() or " " in value:
        return ""
    try:
        parts = urlsplit(value)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and not {"@", "\\"} & set(parts.netloc)
        _ = parts.port
    except ValueError:
        return ""
    return value if usable else ""


def sentence(text: str, most: int = MAX_SENTENCE) -> str:
    """Returns an error's message as one line that changes nothing around it, cut where it is too long."""
    line = " ".join(visible("".join(" " if one.isspace() else one for one in text[: most * 4])).split())
    return line if len(line) <= most else line[: most - 1] + "…"


def visible(text: str) -> str:
    """Returns the text without characters that change how their neighbours are shown: controls, bidi overrides,
    lone surrogates.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(one for one in text if one in _JOINERS or unicodedata.category(one) not in ("Cc", "Cf", "Cs"))


def paragraphs(text: str) -> str:
    """Returns a longer text of somebody else's: its lines, each without characters that change their neighbours."""
    return "\n".join(visible(line) for line in text[:MAX_REPLY].splitlines())
