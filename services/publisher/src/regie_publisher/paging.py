"""Page tokens: where the last page ended, opaque to callers."""

from __future__ import annotations

import base64
import binascii
from datetime import datetime
from uuid import UUID

from regie_chassis.errors import Invalid


class InvalidPageToken(Invalid):
    """A page token is not one that this service gave."""


def write_token(time: datetime, id: UUID) -> str:  # noqa: A002  # the field's word
    """Returns the token of the page after this row."""
    return base64.urlsafe_b64encode(f"{time.isoformat()}|{id}".encode()).decode()


def read_token(token: str) -> tuple[datetime, UUID] | None:
    """Returns where to go on, None at the beginning. Raises InvalidPageToken."""
    if not token:
        return None
    try:
        time, _, row_id = base64.b64decode(token, altchars=b"-_", validate=True).decode().partition("|")
        moment = datetime.fromisoformat(time)
        if moment.tzinfo is None:
            raise ValueError("no zone")
        return moment, UUID(row_id)
    except (binascii.Error, ValueError) as error:
        raise InvalidPageToken("this page token is not one of ours; begin without one", field="page_token") from error
