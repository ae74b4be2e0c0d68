"""Ids: UUIDv7 inside, TypeIDs (`post_…`) outside, so that an id of the wrong kind is refused by its looks."""

from __future__ import annotations

from functools import lru_cache
from uuid import UUID

import uuid_utils
from typeid import TypeID
from typeid.errors import TypeIDException

from regie_chassis.boundary.errors import Invalid


class InvalidId(Invalid):
    """An id has the wrong form or names another kind of thing."""


def new_id() -> UUID:
    """Returns a fresh UUIDv7: sorted by time of creation."""
    return UUID(int=uuid_utils.uuid7().int)


@lru_cache(maxsize=65_536)
def show_id(prefix: str, value: UUID) -> str:
    """Returns the outside form of an id, as in `post_01h…`."""
    return str(TypeID.from_uuid(uuid_utils.UUID(int=value.int), prefix=prefix))


@lru_cache(maxsize=65_536)
def parse_id(prefix: str, text: str, field: str = "") -> UUID:
    """Reads the outside form of an id. Raises InvalidId, whose message names the expected form."""
    try:
        parsed = TypeID.from_string(text)
    except TypeIDException as error:
        raise InvalidId(_advice(prefix, text), field=field) from error
    if parsed.prefix != prefix:
        raise InvalidId(_advice(prefix, text), field=field)
    return UUID(int=parsed.uuid.int)


def _advice(prefix: str, text: str) -> str:
    if text.startswith(f"{prefix}_"):
        return (
            f"{text[:80]!r} is not a whole {prefix}_ id: 26 characters follow {prefix}_; copy the id as it was answered"
        )
    return f"{text[:80]!r} is not the id that belongs here; give one that begins with {prefix}_"
