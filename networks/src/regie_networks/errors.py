"""The outcomes of a call to a network that are no success, and why a delivery failed."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum

from regie_networks import bounds

OTHER_ACCOUNT = "The renewed session belongs to another account; connect the channel again."


class FailureKind(StrEnum):
    """Why a delivery failed: a closed list (docs/errors.md)."""

    AUTH_EXPIRED = "auth_expired"
    CONTENT_REJECTED = "content_rejected"
    DUPLICATE_CONTENT = "duplicate_content"
    MEDIA_REJECTED = "media_rejected"
    RATE_LIMITED = "rate_limited"
    NETWORK_UNREACHABLE = "network_unreachable"
    PLATFORM_ERROR = "platform_error"
    UNSUPPORTED = "unsupported"
    INTERNAL = "internal"


class ConnectorError(Exception):
    """ConnectorError
    ├── NotSent          nothing reached the network; trying again is safe
    ├── Refused          the network refused the call
    │   └── Unacceptable our own check refuses it before any call
    ├── OutcomeUnknown   the call left and no usable answer came back
    ├── Inconclusive     `find` could neither find the post nor rule it out
    └── NotNamed         a person's address is not that of the delivery's post

    The message may hold the network's own words, so it is made one line of bounded length.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(bounds.sentence(message))


class NotSent(ConnectorError):
    """The call never left: no connection, or the local pool was full. Safe to try again."""


class OutcomeUnknown(ConnectorError):
    """The call left and no usable answer came back: timeout, dropped connection, 5xx, unreadable body."""


class Inconclusive(ConnectorError):
    """`find` has no proof either way; asked again later, and at last by a person."""


class NotNamed(ConnectorError):
    """The address that a person gave to `named` is not that of the segment's post; the message has the reason.

    `remote_id` is the account's post at that address, where there is one.
    """

    def __init__(self, message: str, *, remote_id: str = "") -> None:
        super().__init__(message)
        self.remote_id = remote_id


class Refused(ConnectorError):
    """The network refused the call.

    `retry_after` is set when the same call may succeed later (rate limits, maintenance before any effect); `None`
    means that trying again is useless until a person acts. `message` is the network's own text.
    """

    def __init__(self, kind: FailureKind, message: str, *, retry_after: timedelta | None = None) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = str(self)
        self.retry_after = None if retry_after is None else min(max(retry_after, bounds.MIN_WAIT), bounds.MAX_WAIT)


class Unacceptable(Refused):
    """Our own check refuses the call; `message` is our text and is never shown as the network's."""
