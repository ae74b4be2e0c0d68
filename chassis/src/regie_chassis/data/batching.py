"""Group commit: work that arrives while a batch is being written waits and goes with the next one.

One row a transaction is some twenty times slower than a hundred; a fixed window would make a lone row late.
This is neither: an idle batcher writes at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from regie_chassis.data.database import is_transient

Item = TypeVar("Item")
Result = TypeVar("Result")


class Batcher(Generic[Item, Result]):
    """Collects single items into calls of `write(items) -> results`, one call at a time.

    When `write` raises, each item of the batch is written by itself, so that one bad item fails nobody else; `write`
    must leave nothing behind when it raises. An outage fails the whole batch at once.
    """

    def __init__(self, write: Callable[[Sequence[Item]], Awaitable[Sequence[Result]]], *, limit: int) -> None:
        self._write = write
        self._limit = limit
        self._waiting: list[tuple[Item, asyncio.Future[Result]]] = []
        self._worker: asyncio.Task[None] | None = None

    async def submit(self, item: Item) -> Result:
        """Returns the item's result once its batch is written."""
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        return await future

    async def _work(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[: self._limit], self._waiting[self._limit :]
            await self._write_batch(batch)

    async def _write_batch(self, batch: Sequence[tuple[Item, asyncio.Future[Result]]]) -> None:
        try:
            results = await self._write([item for item, _ in batch])
            if len(results) != len(batch):
                raise ValueError(f"{len(batch)} items and {len(results)} results")
        except Exception as error:  # noqa: BLE001  # broad: handed on to every waiter
            if len(batch) > 1 and not is_transient(error):
                for one in batch:
                    await self._write_batch([one])
            else:
                _settle([future for _, future in batch], error)
            return
        for (_, future), result in zip(batch, results, strict=True):
            if not future.done():
                future.set_result(result)


def _settle(futures: Sequence[asyncio.Future[Result]], error: Exception) -> None:
    for future in futures:
        if not future.done():
            future.set_exception(error)
