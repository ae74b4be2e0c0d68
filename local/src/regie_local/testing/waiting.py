"""Waiting by condition, and for quiet."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

from regie_chassis.data.database import Database
from regie_chassis.events.consumer import Consumer
from regie_chassis.events.messaging import Broker, NoSuchStream
from regie_chassis.events.outbox import unsent_count

LOOK_EVERY = 0.02  # seconds
QUIET_LOOKS = 5
Found = TypeVar("Found")


async def until(look: Callable[[], Awaitable[Found]], *, timeout: float = 20.0, what: str = "the condition") -> Found:
    """Returns the first true answer of `look`; fails with the last answer when the time is up."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout
    while True:
        found = await look()
        if found:
            return found
        if loop.time() > deadline:
            raise AssertionError(f"{what} did not come true within {timeout} s; last answer: {found!r}")
        await asyncio.sleep(LOOK_EVERY)


async def settle(
    databases: Iterable[Database], consumers: Iterable[Consumer], broker: Broker, *, timeout: float = 20.0
) -> None:
    """Waits until every staged event is relayed and every relayed event is handled.

    Checked several times in a row, because a stream's figures lag behind its newest message for a moment.
    """
    databases, consumers = list(databases), list(consumers)
    quiet = 0

    async def lastingly_quiet() -> bool:
        nonlocal quiet
        staged = sum([await unsent_count(database) for database in databases])
        pending = sum([await _pending(broker, consumer) for consumer in consumers])
        quiet = quiet + 1 if staged == 0 and pending == 0 else 0
        return quiet >= QUIET_LOOKS

    await until(lastingly_quiet, timeout=timeout, what="quiet")


async def _pending(broker: Broker, consumer: Consumer) -> int:
    # A consumer that has not been made yet has everything still before it.
    try:
        await broker.ensure_consumer(consumer.spec)
    except NoSuchStream:
        return 0
    return await broker.pending(consumer.spec)
