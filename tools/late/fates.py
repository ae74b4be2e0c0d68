"""The fate of a call between the publisher and the network: drawn at random, from a seed."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from enum import StrEnum


class Way(StrEnum):
    """The treatment of a call by a proxy: the network gets it `now`, `late` or `never`."""

    THROUGH = "answered"
    DROPPED_NOW = "now, the answer is dropped"
    BAD_GATEWAY_NOW = "now, 502 instead of the answer"
    TIMEOUT_LATE = "late, 504 at once"
    BAD_GATEWAY_LATE = "late, 502 at once"
    CUT_LATE = "late, the connection is cut"
    HUNG_LATE = "late, no answer at all"
    UNAVAILABLE_NEVER = "never, 503"
    CUT_NEVER = "never, the connection is cut"
    LIMITED_NEVER = "never, 429"


WEIGHTS = {
    Way.THROUGH: 18,
    Way.DROPPED_NOW: 8,
    Way.BAD_GATEWAY_NOW: 8,
    Way.TIMEOUT_LATE: 18,
    Way.BAD_GATEWAY_LATE: 8,
    Way.CUT_LATE: 12,
    Way.HUNG_LATE: 4,
    Way.UNAVAILABLE_NEVER: 8,
    Way.CUT_NEVER: 8,
    Way.LIMITED_NEVER: 8,
}
LATE = (Way.TIMEOUT_LATE, Way.BAD_GATEWAY_LATE, Way.CUT_LATE, Way.HUNG_LATE)
AGAIN_THROUGH = 0.7
"""Of calls that are made again so many pass, or a run would not end."""


@dataclass(frozen=True, slots=True)
class Fate:
    """The way of one call, and how long after its end on the publisher's side the network gets a late one."""

    way: Way
    lateness: float = 0.0


class Fates:
    """Draws fates. `limit` is the longest lateness in seconds."""

    def __init__(self, seed: int, limit: float) -> None:
        self._random = random.Random(seed)
        self._limit = limit
        self._seen: set[str] = set()
        self.drawn: list[Fate] = []

    def draw(self, key: str) -> Fate:
        """Returns the fate of a call with this key."""
        again = key in self._seen
        self._seen.add(key)
        way = self._random.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        if again and self._random.random() < AGAIN_THROUGH:
            way = Way.THROUGH
        fate = Fate(way, self._random.uniform(0, self._limit) if way in LATE else 0.0)
        self.drawn.append(fate)
        return fate

    def limit_headers(self) -> dict[str, str]:
        """Returns one of the forms of a server's wait."""
        at = datetime.now(UTC) + timedelta(seconds=3)
        forms = (
            {"Retry-After": "3"},
            {"Retry-After": format_datetime(at, usegmt=True)},
            {"X-RateLimit-Reset": at.isoformat().replace("+00:00", "Z")},
            {"RateLimit-Reset": str(int(at.timestamp()) + 1)},
        )
        return self._random.choice(forms)
