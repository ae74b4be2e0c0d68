"""Pulls messages of a JetStream consumer by the wire protocol.

Not through nats-py's `fetch`: that one waits for a full batch until its timeout, which would make a lone message late
by the timeout (ADR 0005).

Buffered messages are handed on in turns between workspaces, each workspace's in their order: thousands of one
workspace do not hold up another's (ADR 0021).
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from contextlib import suppress

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from regie_chassis.events.messaging import ConsumerSpec

PULL_BYTES = 16 * 1024 * 1024  # of the messages of one request; hundreds of the largest would fill the memory
BATCH_BYTES = 128 * 1024  # handed on together, since the work of a transaction grows with them; always one message
AHEAD = 4  # times the limit: messages asked for, among which workspaces take turns
MANY = 32  # messages of a batch after which the next one gathers
GATHER = 0.01  # seconds
PULL_EXPIRES = 2.0  # seconds; a pull request is lost with its connection, so none is long


class ConsumerGone(Exception):
    """The server no longer knows the consumer."""


class Pull:
    """The messages that the server was asked for; the next batch is asked for while the last one is handled."""

    def __init__(self, client: Client, spec: ConsumerSpec, inbox: str) -> None:
        self._client = client
        self._inbox = inbox
        self._next = f"$JS.API.CONSUMER.MSG.NEXT.{spec.stream}.{spec.name}"
        self._subscription: Subscription | None = None
        self._owed = 0
        self._asked_until = 0.0
        self._gone = False
        self._last_batch = 0
        self._arrived = asyncio.Event()
        self._taking = asyncio.Lock()
        self._waiting: dict[str, deque[Msg]] = {}  # by workspace
        self._count = 0  # of all that waits
        self._turns: deque[str] = deque()  # the workspaces of whom something waits

    @classmethod
    async def open(cls, client: Client, spec: ConsumerSpec) -> Pull:
        pull = cls(client, spec, client.new_inbox())
        # A callback, since nats-py makes a task and a timer for each message of a subscription without one.
        pull._subscription = await client.subscribe(
            pull._inbox, cb=pull._on_message, pending_msgs_limit=-1, pending_bytes_limit=-1
        )
        return pull

    async def close(self) -> None:
        """Unsubscribes; what has arrived is lost, and delivered again after the consumer's `ack_wait`."""
        if self._subscription is not None:
            await self._subscription.unsubscribe()

    @property
    def arrived(self) -> int:
        """How many messages are here and not taken."""
        return self._count

    async def take(self, limit: int, timeout: float) -> list[Msg]:
        """Returns the buffered messages, or waits for the first; sends a new pull request when the last one is over.

        Calls are serialised: with two readers, one could take the last buffered message while the other waits for it
        in vain and drops the messages that it has collected.
        """
        async with self._taking:
            return await self._take(limit, timeout)

    async def _take(self, limit: int, timeout: float) -> list[Msg]:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        if self._last_batch >= MANY and self._count < limit:
            # In a burst a transaction for what has just arrived costs as much as one for all that comes in its time.
            await asyncio.sleep(GATHER)
        while True:
            if self._gone:
                raise ConsumerGone
            self._arrived.clear()
            found = self.ready(limit)
            if self._count <= limit and (self._owed <= 0 or loop.time() >= self._asked_until):
                await self._ask(limit * AHEAD)
            if found or loop.time() >= deadline:
                self._last_batch = len(found)
                return found
            until = min(deadline, self._asked_until)
            with suppress(TimeoutError):
                async with asyncio.timeout_at(until):
                    await self._arrived.wait()

    def ready(self, limit: int) -> list[Msg]:
        """Returns buffered messages, one of each workspace in turn, up to `limit` and BATCH_BYTES."""
        messages: list[Msg] = []
        size = 0
        while self._turns and len(messages) < limit and size < BATCH_BYTES:
            workspace = self._turns.popleft()
            waiting = self._waiting[workspace]
            messages.append(waiting.popleft())
            size += len(messages[-1].data)
            if waiting:
                self._turns.append(workspace)
            else:
                del self._waiting[workspace]
        self._count -= len(messages)
        return messages

    async def drain(self) -> list[Msg]:
        """Returns all that has arrived and was not taken."""
        # The callback is due, and nothing tells when it has run.
        while self._subscription is not None and self._subscription.pending_msgs:  # noqa: ASYNC110
            await asyncio.sleep(0)
        found: list[Msg] = []
        while self._turns:
            found += self.ready(self._count)
        return found

    async def _on_message(self, message: Msg) -> None:
        self._arrived.set()
        if not self._is_message(message):
            return
        workspace = message.subject.rpartition(".")[2]
        waiting = self._waiting.get(workspace)
        if waiting is None:
            waiting = self._waiting[workspace] = deque()
            self._turns.append(workspace)
        waiting.append(message)
        self._count += 1

    async def _ask(self, limit: int) -> None:
        request = {"batch": limit, "expires": int(PULL_EXPIRES * 1e9), "max_bytes": PULL_BYTES}
        await self._client.publish(self._next, json.dumps(request).encode(), self._inbox)
        self._owed = limit
        self._asked_until = asyncio.get_running_loop().time() + PULL_EXPIRES + 0.1

    def _is_message(self, message: Msg) -> bool:
        """Distinguishes messages from the server's status lines, which end a pull request."""
        status = (message.headers or {}).get("Status") if not message.data else None
        if status is None:
            self._owed -= 1
            return True
        self._owed = 0
        description = (message.headers or {}).get("Description", "")
        if status == "503" or (status == "409" and "consumer" in description.lower()):
            self._gone = True
        return False
