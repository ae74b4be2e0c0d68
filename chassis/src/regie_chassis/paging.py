"""Pages by key: a token is the last id that was seen, bound to the list that it pages through.

A page ends at its size or at `MAX_BYTES`, whatever comes first.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar
from uuid import UUID

from regie_chassis.errors import Invalid

DEFAULT = 50
MOST = 200
MAX_BYTES = 4 * 1024 * 1024
"""Bytes of the items of one answer, but for a single one: a quarter of what one gRPC message carries."""
NEWEST = UUID(int=(1 << 128) - 1)  # after every id

Item = TypeVar("Item")


class InvalidPageToken(Invalid):
    """A page token is not one of ours, or belongs to another list."""


class InvalidPageSize(Invalid):
    """A page size is out of its bounds."""


@dataclass(frozen=True, slots=True)
class Page(Generic[Item]):
    """Some items, and the token of the page after; empty on the last."""

    items: Sequence[Item]
    next_page_token: str


def size_of(requested: int, *, default: int = DEFAULT, most: int = MOST, field: str = "page_size") -> int:
    """Returns how many items to give. Raises InvalidPageSize."""
    if not 0 <= requested <= most:
        raise InvalidPageSize(f"give 1 to {most}, or 0 for {default}", field=field)
    return requested or default


def fitting(sizes: Iterable[int], *, limit: int, max_bytes: int = MAX_BYTES) -> int:
    """Returns how many of the first items make one answer: at most `limit`, and no more than `max_bytes` in all.

    Always one where there is one: an item that is larger alone is read alone.
    """
    count = total = 0
    for size in sizes:
        total += size
        if count == limit or (count and total > max_bytes):
            break
        count += 1
    return count


def read_token(list_name: str, token: str) -> UUID:
    """Returns the id before which the page begins, the greatest of all for the first page. Raises InvalidPageToken."""
    if not token:
        return NEWEST
    try:
        raw = base64.b64decode(token.encode("ascii"), altchars=b"-_", validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise _wrong() from error
    name, _, last = raw.partition(b":")
    if name != list_name.encode() or len(last) != len(UUID(int=0).bytes):
        raise _wrong()
    return UUID(bytes=last)


def show_token(list_name: str, last: UUID) -> str:
    """Returns the token of the page after `last`."""
    return base64.urlsafe_b64encode(list_name.encode() + b":" + last.bytes).decode()


def _wrong() -> InvalidPageToken:
    return InvalidPageToken("this is no token of this list; begin again without one", field="page_token")
