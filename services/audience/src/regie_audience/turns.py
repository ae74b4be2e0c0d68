"""Turns of workspaces at a shared resource: some of one workspace at once, some of all, in the order of arrival."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from uuid import UUID

from regie_chassis.boundary.errors import TooManyRequests


@dataclass(slots=True)
class _Queue:
    turns: asyncio.Semaphore
    present: int = 0


class Turns:
    """Hands out this process's turns. A workspace waits behind itself before it waits behind others."""

    def __init__(
        self,
        *,
        of_one: int,
        of_all: int | None = None,
        max_waiting: int | None = None,
        refusal: TooManyRequests | None = None,
    ) -> None:
        self._of_one = of_one
        self._of_all = None if of_all is None else asyncio.Semaphore(of_all)
        self._max_present = None if max_waiting is None else of_one + max_waiting
        self._refusal = refusal or TooManyRequests("too much of this workspace is at work; try again in a moment")
        self._queues: dict[UUID, _Queue] = {}

    @asynccontextmanager
    async def turn(self, workspace_id: UUID) -> AsyncIterator[None]:
        """Waits for a turn and holds it. Raises the refusal where as many of the workspace wait as may."""
        queue = self._queues.setdefault(workspace_id, _Queue(asyncio.Semaphore(self._of_one)))
        if self._max_present is not None and queue.present >= self._max_present:
            raise self._refusal
        queue.present += 1
        try:
            async with AsyncExitStack() as held:
                await held.enter_async_context(queue.turns)
                if self._of_all is not None:
                    await held.enter_async_context(self._of_all)
                yield
        finally:
            queue.present -= 1
            if not queue.present:
                del self._queues[workspace_id]
