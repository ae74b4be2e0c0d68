"""How often a key may call: a token bucket for each key, in this process alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from regie_chassis.errors import TooManyRequests

REMEMBERED = 10_000


class RateLimited(TooManyRequests):
    """The key calls too often."""

    def __init__(self, message: str, *, retry_after: int, burst: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.burst = burst

    @property
    def headers(self) -> dict[str, str]:
        """What the IETF's RateLimit header fields say."""
        return {
            "RateLimit": f'"key";r=0;t={self.retry_after}',
            "RateLimit-Policy": f'"key";q={self.burst};w={self.retry_after}',
        }


@dataclass(slots=True)
class _Bucket:
    left: float
    fill_time: datetime


class RateLimit:
    """Lets `per_second` calls through in the long run and `burst` at once; 0 per second lets all through."""

    def __init__(self, *, per_second: float, burst: int) -> None:
        self._per_second = per_second
        self._burst = burst
        self._buckets: dict[UUID, _Bucket] = {}

    def take(self, key_id: UUID, now: datetime) -> None:
        """Counts a call. Raises RateLimited."""
        if not self._per_second:
            return
        bucket = self._buckets.get(key_id)
        if bucket is None:
            if len(self._buckets) >= REMEMBERED:
                self._buckets.clear()
            bucket = self._buckets[key_id] = _Bucket(self._burst, now)
        gained = (now - bucket.fill_time).total_seconds() * self._per_second
        bucket.left = min(self._burst, bucket.left + max(gained, 0))
        bucket.fill_time = now
        if bucket.left < 1:
            retry_after = max(1, math.ceil((1 - bucket.left) / self._per_second))
            raise RateLimited(
                f"this key may call {self._per_second:g} times a second; slow down",
                retry_after=retry_after,
                burst=self._burst,
            )
        bucket.left -= 1
