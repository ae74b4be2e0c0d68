"""The meaning of a refusal by its HTTP status: one table a network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from http import HTTPStatus

from regie_networks.errors import ConnectorError, FailureKind, OutcomeUnknown, Refused
from regie_networks.http import Response, retry_after


@dataclass(frozen=True, slots=True)
class StatusTable:
    """The failures that the statuses of a network stand for.

    Every 5xx and the statuses in `unproven` may follow an effect: their outcome is unknown. A redirect is `redirect`,
    or unknown where that is None. `rate_window` is waited after a 429 that names no time.
    """

    kinds: Mapping[int, FailureKind]
    redirect: FailureKind | None
    unproven: frozenset[int]
    rate_window: timedelta

    def failure(self, response: Response, *, now: datetime, rejected: FailureKind) -> ConnectorError:
        """Returns the error that a response other than 2xx stands for; one without an entry is `rejected`."""
        status, text = response.status, response.error_text()
        is_redirect = status < HTTPStatus.BAD_REQUEST
        is_unproven = status in self.unproven or (is_redirect and self.redirect is None)
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR or is_unproven:
            return OutcomeUnknown(f"HTTP {status}: {text}")
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            wait = retry_after(response.headers, now)
            return Refused(FailureKind.RATE_LIMITED, text, retry_after=self.rate_window if wait is None else wait)
        if is_redirect and self.redirect is not None:
            return Refused(self.redirect, f"{text} (the server has moved: connect the channel at its present address)")
        return Refused(self.kinds.get(status, rejected), text)
