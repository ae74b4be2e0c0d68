"""Pages by key: a token is the last id of the page before, bound to its list.

A page ends by count or by bytes, whichever comes first: two hundred items of half a megabyte pass what one gRPC
message carries, and nobody could page past them.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar
from uuid import UUID

from regie_chassis.boundary.errors import Invalid

DEFAULT = 50
MAX_SIZE = 200
PAGE_BYTES = 4 * 1024 * 1024  # far below rpc.MAX_MESSAGE, since sizes are estimates and JSON is larger
NEWEST = UUID(int=(1 << 128) - 1)  # after every id

Item = TypeVar("Item")


class Listed(Protocol):
    """The key by which a list pages."""

    @property
    def id(self) -> UUID: ...


ListedItem = TypeVar("ListedItem", bound=Listed)


class InvalidPageToken(Invalid):
    """A page token is not one of ours, or belongs to another list."""


class InvalidPageSize(Invalid):
    """A page size is out of its bounds."""


@dataclass(frozen=True, slots=True)
class Page(Generic[Item]):
    """Some items, and the token of the page after; empty on the last."""

    items: Sequence[Item]
    next_page_token: str


def size_of(requested: int, *, default: int = DEFAULT, most: int = MAX_SIZE, field: str = "page_size") -> int:
    """Returns how many items to give. Raises InvalidPageSize."""
    if not 0 <= requested <= most:
        raise InvalidPageSize(f"give 1 to {most}, or 0 for {default}", field=field)
    return requested or default


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


def fitting(items: Sequence[Item], bytes_of: Callable[[Item], int], *, max_bytes: int = PAGE_BYTES) -> Sequence[Item]:
    """Returns the first items that together stay within `max_bytes`; at least one where there is one."""
    total = 0
    for number, item in enumerate(items):
        total += bytes_of(item)
        if total > max_bytes and number:
            return items[:number]
    return items


def page_of(
    found: Sequence[ListedItem], *, size: int, list_name: str, bytes_of: Callable[[ListedItem], int]
) -> Page[ListedItem]:
    """Returns a page of at most `size` items and PAGE_BYTES; an item beyond `size` means that there is a next page."""
    items = fitting(found[:size], bytes_of)
    return Page(items, show_token(list_name, items[-1].id) if len(found) > len(items) else "")


def _wrong() -> InvalidPageToken:
    return InvalidPageToken("this is no token of this list; begin again without one", field="page_token")
