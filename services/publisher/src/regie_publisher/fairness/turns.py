"""Calls of people that may take long: a workspace has a few of them under way at once, and hears so at the next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from regie_chassis.errors import TooManyRequests


class TooManyConnects(TooManyRequests):
    """As many accounts of the workspace are being connected as may be at once."""


class TooManyResolves(TooManyRequests):
    """As many deliveries of the workspace are being settled as may be at once."""


class Turns:
    """Counts what is under way, by workspace."""

    def __init__(self, most: int, busy: type[TooManyRequests]) -> None:
        self._most = most
        self._busy = busy
        self._under_way: Counter[UUID] = Counter()

    @contextmanager
    def take(self, workspace_id: UUID) -> Iterator[None]:
        """Holds a turn for the block. Raises `busy` where there is none."""
        if self._under_way[workspace_id] >= self._most:
            raise self._busy(f"{self._most} such calls are under way; make another when one of them has ended")
        self._under_way[workspace_id] += 1
        try:
            yield
        finally:
            self._under_way[workspace_id] -= 1
            if not self._under_way[workspace_id]:
                del self._under_way[workspace_id]
