"""Resolves names in threads of its own: a name server that does not answer holds a thread for as long as it likes.

The system's resolver cannot be cancelled, and asyncio gives it the few threads that everything else uses, too.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

THREADS = 64
PER_DOMAIN = 8
"""Names below one domain that are being resolved at once: its owner answers for all of them, or for none."""
SHORT = 3
"""Characters of a second level that is no owner's, below a country: `co.uk`, `com.br`, `org.au`."""
KEPT_FOR = 30.0
"""Seconds. The addresses are judged again at each connection."""
KEPT_NAMES = 1000

Addresses = list[str]
_Lookup = tuple[asyncio.AbstractEventLoop, str, int]


def owner_of(host: str) -> str:
    """Returns the part of a name that belongs to one owner, as far as its form shows."""
    *_, second, top = ["", "", *host.split(".")]
    labels = 3 if len(top) == 2 and len(second) <= SHORT else 2  # a country's
    return ".".join(host.split(".")[-labels:])


def resolve_by_system(host: str, port: int) -> Addresses:
    """Resolves and waits. Raises OSError, or UnicodeError for an impossible name."""
    return [str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


@cache
def shared_resolver() -> Resolver:
    """Returns the process's resolver; its threads are bounded for the process as a whole."""
    return Resolver()


class Resolver:
    """Resolves as the system does, each name once however many ask for it."""

    def __init__(
        self,
        *,
        threads: int = THREADS,
        per_domain: int = PER_DOMAIN,
        system: Callable[[str, int], Addresses] = resolve_by_system,
    ) -> None:
        self._system = system
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="resolve")
        self._per_domain = per_domain
        self._under_way: dict[_Lookup, asyncio.Future[Addresses]] = {}
        self._domains: Counter[str] = Counter()
        self._kept: OrderedDict[tuple[str, int], tuple[float, Addresses]] = OrderedDict()

    async def __call__(self, host: str, port: int) -> Addresses:
        """Returns all addresses of a host. Raises OSError, or UnicodeError for an impossible name."""
        name = (host.lower().rstrip("."), port)
        kept = self._kept.get(name)
        if kept is not None and time.monotonic() < kept[0]:
            return kept[1]
        lookup = (asyncio.get_running_loop(), *name)
        future = self._under_way.get(lookup)
        if future is None:
            future = self._begin(lookup)
        return await asyncio.shield(future)

    def _begin(self, lookup: _Lookup) -> asyncio.Future[Addresses]:
        loop, host, port = lookup
        domain = owner_of(host)
        if self._domains[domain] >= self._per_domain:
            raise OSError(f"too many names below {domain} are being resolved")
        self._domains[domain] += 1
        future = loop.run_in_executor(self._executor, self._system, host, port)
        self._under_way[lookup] = future
        future.add_done_callback(lambda done: self._end(lookup, domain, done))
        return future

    def _end(self, lookup: _Lookup, domain: str, future: asyncio.Future[Addresses]) -> None:
        del self._under_way[lookup]
        name = lookup[1:]
        self._domains[domain] -= 1
        if not self._domains[domain]:
            del self._domains[domain]
        if future.cancelled() or future.exception() is not None:
            return
        self._kept[name] = (time.monotonic() + KEPT_FOR, future.result())
        self._kept.move_to_end(name)
        if len(self._kept) > KEPT_NAMES:
            self._kept.popitem(last=False)

    def close(self) -> None:
        """Begins no more lookups; a hanging lookup ends by itself."""
        self._executor.shutdown(wait=False, cancel_futures=True)
