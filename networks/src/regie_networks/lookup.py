"""One look at an account after lost responses, shared by all of its deliveries with an open outcome.

The posts of other deliveries are read after the network's: the call of every post that the network showed had begun
by then, so its delivery is among the holders or among the rivals.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

Reading = TypeVar("Reading")


@dataclass(frozen=True, slots=True)
class Rival:
    """A segment of another open delivery of the same account: a post that is seen may be this one's as well."""

    key: str
    text: str
    reply_to: str
    alt_texts: tuple[str, ...]
    handles: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Others:
    """The account's other posts: ids and addresses that deliveries hold, and segments in doubt."""

    taken: frozenset[str] = frozenset()
    rivals: Sequence[Rival] = field(default=())


ReadOthers = Callable[[Sequence[str]], Awaitable[Others]]
"""Returns which of these ids and addresses deliveries hold, and all rivals."""


class Lookup:
    """One pass over the open deliveries of an account. `since` is when the oldest of them was composed."""

    def __init__(self, since: datetime, read_others: ReadOthers) -> None:
        self.since = since
        self._read_others = read_others
        self._lock = asyncio.Lock()
        self._result: tuple[Any, Others] | None = None
        self._error: Exception | None = None

    async def read(self, load: Callable[[], Awaitable[tuple[Reading, Sequence[str]]]]) -> tuple[Reading, Others]:
        """Returns one reading of the account and the posts of other deliveries, loaded once for all callers of a pass.

        `load` returns the reading and the ids and addresses in it. Its error is raised to every caller.
        """
        async with self._lock:
            if self._error is not None:
                raise self._error
            if self._result is None:
                try:
                    reading, ids = await load()
                    self._result = reading, await self._read_others(ids)
                except Exception as error:
                    self._error = error
                    raise
            return self._result
