"""Timestamp identifiers: the only record keys that a Bluesky post may have (atproto.com/specs/tid)."""

from __future__ import annotations

import secrets
import threading
from datetime import UTC, datetime, timedelta

ALPHABET = "234567abcdefghijklmnopqrstuvwxyz"
LENGTH = 13
CLOCK_ID_BITS = 10
LATEST_MICROSECOND = 2**53 - 1

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class TidClock:
    """Makes keys that rise with every call, also where the time given stands still or falls back.

    The random clock id keeps two processes apart that make a key in the same microsecond.
    """

    def __init__(self) -> None:
        self._clock_id = secrets.randbelow(2**CLOCK_ID_BITS)
        self._newest = -1
        self._lock = threading.Lock()

    def next_tid(self, now: datetime) -> str:
        """Returns the next key: 13 characters that sort as their times do."""
        with self._lock:
            self._newest = max((now - _EPOCH) // timedelta(microseconds=1), self._newest + 1)
            return encode(self._newest, self._clock_id)


def encode(microseconds: int, clock_id: int) -> str:
    """Writes 53 bits of time and 10 bits of clock id, highest first, five bits to a character."""
    if not 0 <= microseconds <= LATEST_MICROSECOND:
        raise ValueError("A timestamp identifier holds times from 1970 to 2255")
    number = microseconds << CLOCK_ID_BITS | clock_id
    return "".join(ALPHABET[number >> 5 * place & 0b11111] for place in reversed(range(LENGTH)))
