"""Rate limits of keys and workspaces: a token bucket for each, in this process alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from regie_chassis.boundary.errors import TooManyRequests

MAX_REMEMBERED = 10_000


class RateLimited(TooManyRequests):
    """The key, or its workspace, calls too often."""

    def __init__(self, message: str, *, retry_after: int, policy: str) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.policy = policy

    @property
    def headers(self) -> dict[str, str]:
        """The IETF's RateLimit header fields."""
        name = self.policy.partition(";")[0]
        return {"RateLimit": f"{name};r=0;t={self.retry_after}", "RateLimit-Policy": self.policy}


@dataclass(slots=True)
class _Bucket:
    left: float
    fill_time: datetime


class RateLimit:
    """Lets `per_second` calls through in the long run and `burst` at once; 0 per second lets all through."""

    def __init__(self, name: str, *, per_second: float, burst: int) -> None:
        self._name = name
        self._per_second = per_second
        self._burst = burst
        # A bucket is a quota of `burst` in the time that it takes to fill.
        window = max(1, math.ceil(burst / per_second)) if per_second else 1
        self._policy = f'"{name}";q={burst};w={window}'
        self._buckets: dict[UUID, _Bucket] = {}

    def take(self, caller_id: UUID, now: datetime) -> None:
        """Counts a call. Raises RateLimited."""
        if not self._per_second:
            return
        bucket = self._buckets.get(caller_id)
        if bucket is None:
            if len(self._buckets) >= MAX_REMEMBERED:
                self._buckets.clear()
            bucket = self._buckets[caller_id] = _Bucket(self._burst, now)
        gained = (now - bucket.fill_time).total_seconds() * self._per_second
        bucket.left = min(self._burst, bucket.left + max(gained, 0))
        bucket.fill_time = now
        if bucket.left < 1:
            retry_after = max(1, math.ceil((1 - bucket.left) / self._per_second))
            raise RateLimited(
                f"this {self._name} may call {self._per_second:g} times a second; slow down",
                retry_after=retry_after,
                policy=self._policy,
            )
        bucket.left -= 1
