from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from regie_chassis.data.batching import Batcher


class Writer:
    """Keeps the batches that it was given; each write waits for the gate."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate = asyncio.Event()
        self.at_work = 0

    async def __call__(self, items: Sequence[int]) -> Sequence[int]:
        assert self.at_work == 0, "two writes at once"
        self.at_work += 1
        self.batches.append(list(items))
        try:
            await self.gate.wait()
            if 13 in items:
                raise ValueError("thirteen")
            return [item * 2 for item in items]
        finally:
            self.at_work -= 1


@pytest.fixture
def writer() -> Writer:
    return Writer()


async def submit_all(batcher: Batcher[int, int], items: Sequence[int]) -> list[asyncio.Task[int]]:
    tasks = [asyncio.create_task(batcher.submit(item)) for item in items]
    for _ in range(3):
        await asyncio.sleep(0)
    return tasks


async def test_an_idle_batcher_writes_at_once(writer: Writer) -> None:
    writer.gate.set()
    assert await Batcher(writer, limit=10).submit(1) == 2
    assert writer.batches == [[1]]


async def test_what_arrives_during_a_write_goes_together_with_the_next_one(writer: Writer) -> None:
    batcher = Batcher(writer, limit=10)
    first = await submit_all(batcher, [1])
    rest = await submit_all(batcher, [2, 3, 4])
    assert writer.batches == [[1]]
    writer.gate.set()
    assert await asyncio.gather(*first, *rest) == [2, 4, 6, 8]
    assert writer.batches == [[1], [2, 3, 4]]


async def test_no_batch_is_larger_than_the_limit_and_the_order_is_kept(writer: Writer) -> None:
    batcher = Batcher(writer, limit=3)
    tasks = await submit_all(batcher, list(range(20, 28)))
    writer.gate.set()
    assert await asyncio.gather(*tasks) == [item * 2 for item in range(20, 28)]
    assert [item for batch in writer.batches for item in batch] == list(range(20, 28))
    assert max(map(len, writer.batches)) == 3


async def test_a_bad_item_fails_nobody_beside_it(writer: Writer) -> None:
    batcher = Batcher(writer, limit=2)
    tasks = await submit_all(batcher, [1, 2, 13, 3, 4])
    writer.gate.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert writer.batches == [[1, 2], [13, 3], [13], [3], [4]]
    assert [str(result) for result in results] == ["2", "4", "thirteen", "6", "8"]


async def test_an_outage_fails_a_batch_at_once() -> None:
    calls = 0

    async def down(items: Sequence[int]) -> Sequence[int]:
        nonlocal calls
        calls += 1
        await asyncio.sleep(0)
        raise ConnectionResetError

    tasks = await submit_all(Batcher(down, limit=10), [1, 2, 3])
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(result, ConnectionResetError) for result in results)
    assert calls <= 2


async def test_a_waiter_that_leaves_takes_nobody_along(writer: Writer) -> None:
    batcher = Batcher(writer, limit=10)
    first = await submit_all(batcher, [1])
    leaving, staying = await submit_all(batcher, [2, 3])
    leaving.cancel()
    first[0].cancel()
    writer.gate.set()
    assert await staying == 6
    assert leaving.cancelled() or leaving.cancelling()
    assert await batcher.submit(4) == 8


async def test_too_few_results_are_an_error_for_every_waiter_instead_of_a_wait_for_ever() -> None:
    async def lossy(items: Sequence[int]) -> Sequence[int]:
        return items[1:]

    async with asyncio.timeout(5):
        with pytest.raises(ValueError, match="1 items and 0 results"):
            await Batcher(lossy, limit=10).submit(1)
