"""The decision about failed work, as a value that the caller applies."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class Retry:
    """Try again after `delay`."""

    delay: timedelta


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Gives up on the work, for `reason`."""

    reason: str


RetryDecision = Retry | GiveUp


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Doubles the delay with every attempt, up to `cap`, with full jitter above half of it."""

    max_attempts: int = 5
    base: timedelta = timedelta(milliseconds=500)
    cap: timedelta = timedelta(minutes=5)

    def decide(self, attempt: int, error: BaseException) -> RetryDecision:
        """Decides after attempt number `attempt`, counted from 1, has failed with `error`."""
        if attempt >= self.max_attempts:
            return GiveUp(f"{type(error).__name__}: {error}"[:1000])
        return Retry(self.delay(attempt))

    def delay(self, attempt: int) -> timedelta:
        """Returns the pause after attempt number `attempt`."""
        full: timedelta = min(self.base * (1 << min(attempt - 1, 30)), self.cap)
        return full * random.uniform(0.5, 1.0)
