"""Fakes of the publisher's parts for a connector; they keep the calls that they received."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime

from regie_networks.errors import NotSent, OutcomeUnknown
from regie_networks.lookup import Lookup, Others, Rival

BEGINNING = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


class FakeCredentials:
    """`Credentials` of one channel in memory; `renewals` are the secrets that each renewal brought."""

    def __init__(self, secrets: Mapping[str, str]) -> None:
        self._secrets = dict(secrets)
        self._lock = asyncio.Lock()
        self.renewals: list[Mapping[str, str]] = []

    @property
    def secrets(self) -> Mapping[str, str]:
        return dict(self._secrets)

    async def refresh(
        self,
        used: Mapping[str, str],
        renew: Callable[[Mapping[str, str]], Awaitable[Mapping[str, str]]],
    ) -> Mapping[str, str]:
        async with self._lock:
            if self._secrets == dict(used):
                try:
                    self._secrets = dict(await renew(used))
                except OutcomeUnknown as error:
                    raise NotSent(f"the session could not be renewed: {error}") from error
                self.renewals.append(self.secrets)
            return self.secrets


class MemoryHandles:
    """A `SaveHandle` that keeps its calls, in order."""

    def __init__(self) -> None:
        self.saved: dict[str, str] = {}

    async def __call__(self, name: str, value: str) -> None:
        self.saved[name] = value


def alone(*, since: datetime = BEGINNING, taken: Sequence[str] = (), rivals: Sequence[Rival] = ()) -> Lookup:
    """Returns a look of one delivery on an account with no other deliveries but the given ones."""

    async def read_others(remote_ids: Sequence[str]) -> Others:
        return Others(frozenset(taken) & frozenset(remote_ids), rivals)

    return Lookup(since, read_others)
