"""Limits the concurrent calls of a workspace that may take long."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from regie_chassis.boundary.errors import TooManyRequests


class TooManyConnects(TooManyRequests):
    """The workspace connects as many accounts at once as it may."""


class TooManyResolves(TooManyRequests):
    """The workspace resolves as many deliveries at once as it may."""


class ConcurrencyLimit:
    """Counts the calls under way of each workspace."""

    def __init__(self, max_calls: int, busy: type[TooManyRequests]) -> None:
        self._max_calls = max_calls
        self._busy = busy
        self._under_way: Counter[UUID] = Counter()

    @contextmanager
    def hold(self, workspace_id: UUID) -> Iterator[None]:
        """Counts one call for the block. Raises `busy` at the limit."""
        if self._under_way[workspace_id] >= self._max_calls:
            raise self._busy(f"{self._max_calls} such calls are under way; make another when one of them has ended")
        self._under_way[workspace_id] += 1
        try:
            yield
        finally:
            self._under_way[workspace_id] -= 1
            if not self._under_way[workspace_id]:
                del self._under_way[workspace_id]
