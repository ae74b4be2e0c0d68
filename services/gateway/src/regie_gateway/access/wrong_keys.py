"""Limits on guessed keys: wrong ones for each address, and the ids that are known not to exist."""

from __future__ import annotations

import ipaddress
import math
from collections import OrderedDict
from datetime import datetime, timedelta
from uuid import UUID

from regie_chassis.boundary.errors import TooManyRequests

MAX_REMEMBERED = 10_000
BURST = 2  # minutes' worth at once
IPV6_PREFIX = 64  # bits that one customer is given; the rest of an address costs nothing


class TooManyWrongKeys(TooManyRequests):
    """This address has sent too many wrong keys."""

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"too many wrong API keys came from this address; try again in {retry_after} s")
        self.retry_after = retry_after


class WrongKeys:
    """A token bucket for each address, and ids that were looked for in vain within `fresh`."""

    def __init__(self, *, per_minute: int, fresh: timedelta) -> None:
        self._per_second = per_minute / 60
        self._most = float(max(per_minute * BURST, 1))
        self._fresh = fresh
        self._buckets: OrderedDict[str, tuple[float, datetime]] = OrderedDict()
        self._unknown: OrderedDict[UUID, datetime] = OrderedDict()

    def take(self, address: str, *, now: datetime) -> None:
        """Counts a key that may be wrong. Raises TooManyWrongKeys where an address has none left."""
        if not self._per_second:
            return
        block = _block(address)
        left = self._left(block, now)
        if left < 1:
            raise TooManyWrongKeys(math.ceil((1 - left) / self._per_second))
        self._buckets[block] = (left - 1, now)
        self._buckets.move_to_end(block)
        if len(self._buckets) > MAX_REMEMBERED:
            self._buckets.popitem(last=False)

    def give_back(self, address: str, *, now: datetime) -> None:
        """Takes back a count: the key was right."""
        block = _block(address)
        if block in self._buckets:
            self._buckets[block] = (self._left(block, now) + 1, now)

    def _left(self, block: str, now: datetime) -> float:
        left, at = self._buckets.get(block, (self._most, now))
        return min(self._most, left + max((now - at).total_seconds(), 0.0) * self._per_second)

    def is_unknown(self, key_id: UUID, *, now: datetime) -> bool:
        """True for an id that was looked for in vain a moment ago."""
        looked = self._unknown.get(key_id)
        return looked is not None and now - looked < self._fresh

    def note_unknown(self, key_id: UUID, *, now: datetime) -> None:
        """Remembers an id that is nobody's."""
        self._unknown[key_id] = now
        self._unknown.move_to_end(key_id)
        if len(self._unknown) > MAX_REMEMBERED:
            self._unknown.popitem(last=False)

    def forget(self, key_id: UUID) -> None:
        """Makes the next request look for an id again."""
        self._unknown.pop(key_id, None)


def _block(address: str) -> str:
    try:
        ip = ipaddress.ip_address(address.split("%", 1)[0])
    except ValueError:
        return address[:64]
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is None:
        return str(ipaddress.ip_network((ip, IPV6_PREFIX), strict=False))
    return str(getattr(ip, "ipv4_mapped", None) or ip)
